"""Names known from PyTorch that are not here, and what to write instead: layers and methods."""

_ATTENTION = "nn.MultiHeadAttention(n_embd, n_head), or nn.TransformerBlock around it"
_BLOCK = "nn.TransformerBlock(n_embd, n_head, causal=False) for an encoder, causal=True for GPT"
_NO_CONVOLUTION = "nn.Linear or nn.TransformerBlock: this package is for text and has no images"
_NO_RECURRENCE = "nn.TransformerBlock: this package has no recurrent layers"
_NORM = "nn.LayerNorm(n_embd), which needs no statistics of a batch"

LEFT_OUT = {
    "BCELoss": "-(y * p.log() + (1 - y) * (1 - p).log()).mean()",
    "BCEWithLogitsLoss": "nn.CrossEntropyLoss with the logits [0, z] of two classes",
    "BatchNorm1d": _NORM,
    "BatchNorm2d": _NORM,
    "Buffer": "self.register_buffer(name, tensor)",
    "Container": "nn.Sequential, nn.ModuleList or nn.ModuleDict",
    "Conv1d": _NO_CONVOLUTION,
    "Conv2d": _NO_CONVOLUTION,
    "Conv3d": _NO_CONVOLUTION,
    "ConvTranspose2d": _NO_CONVOLUTION,
    "CosineSimilarity": "(a * b).sum(-1) / (a.norm(axis=-1) * b.norm(axis=-1))",
    "DataParallel": "mpiexec with several processes, see docs/scaling.md",
    "ELU": "nn.GELU or nn.SiLU",
    "Flatten": "x.reshape(len(x), -1)",
    "GRU": _NO_RECURRENCE,
    "GRUCell": _NO_RECURRENCE,
    "GroupNorm": _NORM,
    "Hardswish": "nn.SiLU or nn.GELU",
    "HuberLoss": "nn.MSELoss",
    "KLDivLoss": "(p * (log_p - log_q)).sum(), with log_p and log_q of log_softmax",
    "L1Loss": "(x - target).abs().mean()",
    "LSTM": _NO_RECURRENCE,
    "LSTMCell": _NO_RECURRENCE,
    "MaxPool2d": _NO_CONVOLUTION,
    "AvgPool1d": _NO_CONVOLUTION,
    "Upsample": _NO_CONVOLUTION,
    "InstanceNorm1d": _NORM,
    "SyncBatchNorm": _NORM,
    "LeakyReLU": "nn.ReLU or nn.GELU",
    "Mish": "nn.SiLU or nn.GELU",
    "MultiheadAttention": _ATTENTION,
    "NLLLoss": "nn.CrossEntropyLoss, which takes logits",
    "ParameterDict": "self.register_parameter(name, parameter) for each",
    "ParameterList": "self.register_parameter(name, parameter) for each",
    "PositionalEncoding": "nn.Embedding(context_length, n_embd), added to the tokens' embeddings",
    "RMSNorm": "nn.LayerNorm, or x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight",
    "RNN": _NO_RECURRENCE,
    "SmoothL1Loss": "nn.MSELoss",
    "Softplus": "(1 + x.exp()).log()",
    "Threshold": "x.masked_fill(x <= threshold, value)",
    "Transformer": _BLOCK,
    "TransformerDecoderLayer": _BLOCK,
    "TransformerEncoder": _BLOCK,
    "TransformerEncoderLayer": _BLOCK,
    "Unflatten": "x.unflatten(axis, lengths)",
    "UninitializedParameter": "nn.init.no_init() around the constructor",
    "parallel": "mpiexec with several processes, see docs/scaling.md",
}

METHODS_LEFT_OUT = {
    "compile": "the module as it is: its hot ops are fused by hand",
    "get_buffer": "dict(module.named_buffers())[path]",
    "get_parameter": "dict(module.named_parameters())[path]",
    "register_full_backward_hook": "register_backward_hook(hook) with hook(module, dy)",
    "share_memory": "mpiexec with several processes, see docs/scaling.md",
    "to_empty": "nn.init.no_init() around the constructor",
    "type": "module.to(dtype)",
}
