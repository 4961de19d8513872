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
    "Conv1d": _NO_CONVOLUTION,
    "Conv2d": _NO_CONVOLUTION,
    "DataParallel": "mpiexec with several processes, see docs/scaling.md",
    "ELU": "nn.GELU or nn.SiLU",
    "Flatten": "x.reshape(len(x), -1)",
    "GRU": _NO_RECURRENCE,
    "GroupNorm": _NORM,
    "KLDivLoss": "(p * (log_p - log_q)).sum(), with log_p and log_q of log_softmax",
    "L1Loss": "(x - target).abs().mean()",
    "LSTM": _NO_RECURRENCE,
    "LeakyReLU": "nn.ReLU or nn.GELU",
    "MultiheadAttention": _ATTENTION,
    "NLLLoss": "nn.CrossEntropyLoss, which takes logits",
    "ParameterDict": "self.register_parameter(name, parameter) for each",
    "ParameterList": "self.register_parameter(name, parameter) for each",
    "RMSNorm": "nn.LayerNorm, or x / ((x * x).mean(axis=-1, keepdims=True) + eps).sqrt() * weight",
    "RNN": _NO_RECURRENCE,
    "Softplus": "(1 + x.exp()).log()",
    "Transformer": _BLOCK,
    "TransformerDecoderLayer": _BLOCK,
    "TransformerEncoder": _BLOCK,
    "TransformerEncoderLayer": _BLOCK,
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
