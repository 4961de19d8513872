"""What the compiler made of a kernel, read from its PTX and its machine code.

    with compile_only(90) as compiled:
        layer_norm(x, weight, bias)
    print(read_machine_code(compiled[0]))

Three questions decide how fast a kernel can be, and none needs a GPU to answer:

* How many programs share a multiprocessor? Registers and shared memory are handed out to whole
  programs; whoever waits for memory is hidden by the others (`programs_per_multiprocessor`).
* How wide is each access to global memory? A thread moves 16 bytes with one instruction where the
  compiler can prove that the address allows it, and 2 bytes where it cannot (`Access`).
* How long is a round of each loop, and what is in it: products on the matrix units (HGMMA, HMMA),
  exponentials (MUFU), the rest being addresses, masks and conversions (`Loop`)?
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest

import triton
from triton.compiler import CompiledKernel

from ._loops import Instruction, Loop, innermost_loops
from .compiling import resources
from .errors import KernelError

VECTOR = 16  # bytes that a thread can move with one instruction


@dataclasses.dataclass(frozen=True)
class Access:
    """Instructions of one kind on one array, as many as stand in the PTX."""

    parameter: str  # of the kernel; "scratch" of Triton's own; "" where no parameter was found
    kind: str  # load, store, copy (to shared memory), atomic, or tensor (a tile by the TMA unit)
    bytes: int  # that each thread moves; 0 for a tile, which is moved as a whole
    count: int


@dataclasses.dataclass(frozen=True)
class MachineCode:
    """A kernel compiled for one chip."""

    name: str
    chip: int  # 90 for sm_90
    registers: int  # per thread
    spilled: int  # bytes of stack per thread
    shared: int  # bytes per program
    threads: int  # per program
    programs: int  # that fit on one multiprocessor at a time
    loops: tuple[Loop, ...]
    accesses: tuple[Access, ...]
    counts: dict[str, int]  # instructions by name: HGMMA, HMMA, MUFU, LDG.E.128, ...
    multiplies: bool  # whether the source asks for matrix products (tl.dot)


@dataclasses.dataclass(frozen=True)
class Multiprocessor:
    """What one has to hand out (CUDA C++ Programming Guide, technical specifications)."""

    shared: int  # bytes
    programs: int = 32
    threads: int = 2048
    registers: int = 65536


MULTIPROCESSORS = {80: Multiprocessor(164 << 10), 90: Multiprocessor(228 << 10),
                   100: Multiprocessor(228 << 10)}
_RESERVED = 1 << 10  # bytes of shared memory that CUDA takes of each program's
_REGISTERS_AT_ONCE, _WARPS_AT_ONCE = 256, 4  # registers per warp come in steps, and so do warps


def programs_per_multiprocessor(chip: int, registers: int, threads: int, shared: int) -> int:
    """How many programs fit: 0 if one is too large.

    registers: per thread; shared: bytes per program
    Raises KernelError for a chip whose limits are not listed.
    """
    if chip not in MULTIPROCESSORS:
        raise KernelError(f"machine_code: no limits are known for sm_{chip}; known are "
                          f"{', '.join(f'sm_{c}' for c in MULTIPROCESSORS)}")
    has, warps = MULTIPROCESSORS[chip], threads // 32
    of_a_warp = _rounded_up(32 * registers, _REGISTERS_AT_ONCE)
    resident = has.registers // of_a_warp // _WARPS_AT_ONCE * _WARPS_AT_ONCE
    return min(has.programs, has.threads // threads, resident // _rounded_up(warps, _WARPS_AT_ONCE)
               if warps >= _WARPS_AT_ONCE else resident // warps,
               has.shared // (_rounded_up(shared, 128) + _RESERVED))


def _rounded_up(n: int, step: int) -> int:
    return -(-n // step) * step


def read_machine_code(compiled: CompiledKernel) -> MachineCode:
    """Read a kernel that compile_only() gathered.

    Raises KernelError where the tools that come with Triton cannot read it.
    """
    took, ptx, instructions = resources(compiled), compiled.asm["ptx"], disassemble(compiled)
    threads = 32 * took.warps
    return MachineCode(
        took.name, took.chip, took.registers, took.stack, took.shared, threads,
        programs_per_multiprocessor(took.chip, took.registers, threads, took.shared),
        tuple(innermost_loops(instructions)),
        tuple(Access(*what, count) for what, count in _accesses(ptx, _arrays(compiled)).items()),
        dict(Counter(i.name for i in instructions)),
        "tt.dot" in compiled.asm["ttir"])


def _arrays(compiled: CompiledKernel) -> list[str]:
    """The names of the pointer parameters, in order."""
    return [name for name, kind in compiled.src.signature.items() if str(kind).startswith("*")]


# ---------------------------------------------------------------- machine code
def disassemble(compiled: CompiledKernel) -> list[Instruction]:
    """The machine code of a kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.nvdisasm.path, "-c", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise KernelError(f"nvdisasm cannot read {compiled.metadata.name}: {done.stderr.strip()}")
    return list(_instructions(done.stdout))


_LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([A-Z][\w.]*)\s*([^;]*);")
_LABEL = re.compile(r"^(\.L_x_\d+):")
_LEAVING = {"BRA", "EXIT", "RET", "BRX"}  # without a condition they never go on to the next


def _instructions(text: str) -> Iterator[Instruction]:
    lines, places, waiting = text.splitlines(), {}, []
    for line in lines:
        if label := _LABEL.match(line):
            waiting.append(label[1])
        elif found := _LINE.search(line):
            places.update(dict.fromkeys(waiting, int(found[1], 16)))
            waiting = []
    for line in lines:
        if found := _LINE.search(line):
            address, condition, name, operands = found.groups()
            kind, target = name.split(".")[0], re.search(r"`\((\.L_x_\d+)\)", operands)
            leads = places.get(target[1]) if target and kind == "BRA" else None
            whole = target is None or target.start() == 0  # no condition among the operands
            yield Instruction(int(address, 16), name, leads,
                              kind in _LEAVING and not condition and whole)


# ---------------------------------------------------------------- PTX
_KINDS: dict[str, str] = {"ld": "load", "st": "store", "atom": "atomic", "red": "atomic"}
_STATEMENT = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][\w.:]*)\s+(.*);")
_REGISTER = re.compile(r"%rd\d+")


def _accesses(ptx: str, arrays: list[str]) -> Counter[tuple[str, str, int]]:
    """(parameter, kind, bytes) of each access to global memory -> how many there are."""
    statements = [statement.groups() for line in ptx.splitlines()
                  if (statement := _STATEMENT.match(line.partition("//")[0]))]
    names = zip_longest(_pointers(ptx), arrays, fillvalue="scratch")  # which Triton adds at the end
    origin = _origins(statements, dict(names))
    found: Counter[tuple[str, str, int]] = Counter()
    for opcode, operands in statements:
        access = _access(opcode.split("."), operands)
        if access is not None:
            kind, size, register = access
            found[origin(register), kind, size] += 1
    return found


def _pointers(ptx: str) -> list[str]:
    """The names of the parameters of an entry that are addresses, in order."""
    return re.findall(r"\.param \.u64 \.ptr\b.*?(\w+_param_\d+)", ptx)


def _access(parts: list[str], operands: str) -> tuple[str, int, str] | None:
    """(kind, bytes, register of the address) of an instruction, None where it is no access."""
    if parts[:3] == ["cp", "async", "bulk"] or parts[:3] == ["cp", "reduce", "async"]:
        return ("tensor", 0, "") if "tensor" in parts else None
    brackets = re.findall(r"\[([^\]]*)\]", operands)
    if parts[:2] == ["cp", "async"] and len(brackets) == 2:
        size = int(operands.rpartition("]")[2].split(",")[1].strip(), 0)
        return "copy", size, _register(brackets[1])
    if parts[0] not in _KINDS or "global" not in parts:
        return None
    elements = next((int(p[1:]) for p in parts if re.fullmatch(r"v\d", p)), 1)
    bits = int(parts[-1].lstrip("bfsux") or 8)
    return _KINDS[parts[0]], elements * bits // 8, _register(brackets[0])


def _register(address: str) -> str:
    found = _REGISTER.search(address)
    return found[0] if found else ""


def _origins(statements: list[tuple[str, ...]],
             arrays: dict[str, str]) -> Callable[[str], str]:
    """A function from a register that holds an address to the parameter that it comes from.

    Addresses are a parameter plus offsets, so it is looked for backwards through sums and moves,
    not through memory: a row that was looked up in a table of ids still belongs to its table.
    """
    sources: dict[str, set[str]] = {}
    for opcode, operands in statements:
        target, _, rest = operands.partition(",")
        if opcode.startswith("ld.param"):
            name = rest.strip(" []").split("+")[0]
            if name in arrays:
                sources.setdefault(target.strip(), set()).add("=" + arrays[name])
        elif opcode.split(".")[0] in {"add", "sub", "mov", "cvta", "mad", "selp", "or"}:
            sources.setdefault(target.strip(), set()).update(_REGISTER.findall(rest))

    def origin(register: str) -> str:
        seen, waiting = set(), [register]
        while waiting:
            here = waiting.pop()
            if here not in seen:
                seen.add(here)
                waiting += sources.get(here, ())
        return "|".join(sorted(name[1:] for name in seen if name.startswith("=")))

    return origin
