"""Writes the two kinds of files of actions that FloWM's authors publish, tiny: make_flowm.py FOLDER.

flowm_blockworld_actions.pt   5 frames, all names of a published `NNNN_actions.pt`
flowm_mnist_world.pt          4 frames, all names of an `NNNN.pt` that was saved with what is in the world

Python's own pickle writes them, called as torch.save calls it (protocol 2, tensors by their reduction, storages as persistent
ids), into an archive of the same entries in the same places; `counter_tensordict_0_15.pt` is of torch itself. No torch is needed.
"""

import pickle
import struct
import sys
import types
import zlib
from collections import OrderedDict
from io import BytesIO
from pathlib import Path

ALIGNMENT = 64
KINDS = {"q": "LongStorage", "f": "FloatStorage"}

torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
sys.modules.update({"torch": torch, "torch._utils": utils})
for kind in KINDS.values():
    setattr(torch, kind, type(kind, (), {"__module__": "torch"}))


def _rebuild_tensor_v2(*_):
    raise NotImplementedError


_rebuild_tensor_v2.__module__ = "torch._utils"
utils._rebuild_tensor_v2 = _rebuild_tensor_v2


class Storage:
    def __init__(self, kind, numbers):
        self.kind, self.numbers, self.bytes = kind, len(numbers), struct.pack(f"<{len(numbers)}{kind}", *numbers)


class Tensor:
    def __init__(self, kind, shape, numbers):
        self.storage, self.shape = Storage(kind, numbers), tuple(shape)
        self.strides = tuple(shape[1] if axis == 0 and len(shape) == 2 else 1 for axis in range(len(shape)))

    def __reduce_ex__(self, protocol):
        return _rebuild_tensor_v2, (self.storage, 0, self.shape, self.strides, False, OrderedDict())


def saved(name, content):
    storages, pickled = [], BytesIO()

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                storages.append(value)
                return "storage", getattr(torch, KINDS[value.kind]), str(len(storages) - 1), "cpu", value.numbers
            return None

    Pickler(pickled, protocol=2).dump(content)
    entries = {"data.pkl": pickled.getvalue(), ".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}
    entries |= {f"data/{key}": storage.bytes for key, storage in enumerate(storages)}
    entries |= {"version": b"3\n", ".data/serialization_id": b"0" * 40}
    file, directory = b"", b""
    for entry, content in entries.items():
        entry, at, check = f"{name}/{entry}".encode(), len(file), zlib.crc32(content)
        head = struct.pack("<HHHHH", 0, 0x0808, 0, 0, 0)
        sizes = struct.pack("<III", check, len(content), len(content))
        length = struct.pack("<H", len(entry))
        padding = -(at + 30 + len(entry) + 4) % ALIGNMENT
        extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        file += b"PK\3\4" + head + bytes(12) + length + struct.pack("<H", len(extra)) + entry + extra + content
        file += b"PK\7\10" + sizes
        directory += b"PK\1\2\0\0" + head + sizes + length + struct.pack("<HHHHII", 0, 0, 0, 0, 0, at) + entry
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(directory), len(file), 0)
    return file + directory + b"PK\5\6" + end


folder = Path(sys.argv[1])
blockworld = {
    "actions": Tensor("q", [5], [2, 0, 4, 1, 2]),
    "agent_pos": Tensor("f", [5, 3], [1.0, 0.0, 2.0] * 5),
    "delta_xz": Tensor("f", [5, 2], [0.0] * 10),
    "delta_dir": Tensor("f", [5], [0.0] * 5),
    "agent_dir": Tensor("f", [5], [0.0] * 5),
}
(folder / "flowm_blockworld_actions.pt").write_bytes(saved("flowm_blockworld_actions", blockworld))
mnist_world = {
    "actions": Tensor("q", [4, 2], [0, 0, -10, 3, 10, 0, 0, -1]),
    "digit_labels": Tensor("q", [5], [3, 1, 4, 1, 5]),
    "digit_init_positions": Tensor("q", [5, 2], list(range(10))),
    "digit_velocities": Tensor("q", [5, 2], [1, -1] * 5),
    "digit_positions_over_time": Tensor("q", [5, 8], list(range(40))),
    "camera_centers_input": Tensor("q", [2, 2], [0, 0, 40, 3]),
    "camera_centers_target": Tensor("q", [2, 2], [0, 3, 0, 2]),
}
(folder / "flowm_mnist_world.pt").write_bytes(saved("flowm_mnist_world", mnist_world))
