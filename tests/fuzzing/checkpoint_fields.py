"""Harm done to what stands inside a checkpoint, behind the checksums of its zip file."""

import io
import pickletools
import struct
import zipfile
import zlib
from random import Random

from tests.fuzzing.mutations import BYTES, flip_bit, set_byte, set_number
from tests.fuzzing.sample import Content
from tests.torch_files import zipped

_BITS = (flip_bit, flip_bit, set_byte, set_byte, set_number, *BYTES)
_NAMES = (
    *(b"posix\nsystem", b"builtins\neval", b"builtins\ngetattr", b"torch\nFloatStorage"),
    *(b"numpy\ndtype", b"collections\nOrderedDict", b"_codecs\nencode", b"numpy\nndarray"),
    *(b"torch._utils\n_rebuild_tensor_v2", b"numpy._core.multiarray\nscalar", b"x\ny", b"\n"),
)
_INTEGERS = (0, 1, 2, 3, 255, 65535, 2**31 - 1, -1, -(2**31))
_PIECES = (  # instructions, known and unknown ones
    *(b"N", b"(", b")", b"]", b"}", b"t", b"\x85", b"\x86", b"\x87", b"a", b"e", b"s", b"u"),
    *(b"R", b"b", b"Q", b".", b"0", b"1", b"2", b"o", b"\x81", b"\x93", b"P1\n", b"K\1"),
    *(b"j\xff\xff\xff\xff", b"r\xff\xff\xff\xff", b"\x82\1", b"h\0", b"G\x7f\xf8" + bytes(6)),
    *(b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"X\xff\xff\xff\xff", b"X\1\0\0\0a", b"\x80\4"),
    *(b"cposix\nsystem\nX\4\0\0\0true\x85R", b"cbuiltins\neval\nX\1\0\0\0" + b"1\x85R"),
)


def set_member(content: Content, rng: Random) -> None:
    """Harm one member of the zip file, mostly its pickle, and write the file anew."""
    try:
        with zipfile.ZipFile(io.BytesIO(bytes(content))) as archive:
            members = [(name, bytearray(archive.read(name))) for name in archive.namelist()]
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, NotImplementedError, struct.error):
        return  # harmed before
    pickles = [held for name, held in members if name.endswith(".pkl")]
    if pickles and rng.random() < 0.4:
        _set_pickle(rng.choice(pickles), rng)
    elif members:
        picked = rng.randrange(len(members))
        held = members[picked][1]
        if held and rng.random() < 0.9:
            rng.choice(_BITS)(held, rng)
        else:
            members.insert(picked, members.pop(rng.randrange(len(members))))
            del members[picked : picked + rng.choice((0, 1))]
    content[:] = zipped([(name, bytes(held)) for name, held in members], rng.random() < 0.5)


def _set_pickle(content: Content, rng: Random) -> None:
    """Change, move, repeat or remove instructions; or bytes, whatever they mean."""
    pieces = _instructions(content)
    if not pieces or rng.random() < 0.15:
        if content:
            rng.choice(BYTES)(content, rng)
        return
    place, what = rng.randrange(len(pieces)), rng.random()
    if what < 0.2:
        del pieces[place : place + rng.choice((1, 1, 2, 20))]
    elif what < 0.4:
        pieces.insert(place, rng.choice(_PIECES))
    elif what < 0.5:
        pieces[place:place] = pieces[rng.randrange(len(pieces)) :][: rng.choice((1, 2, 8, 64))]
    elif what < 0.6:
        other = rng.randrange(len(pieces))
        pieces[place], pieces[other] = pieces[other], pieces[place]
    elif values := [n for n, piece in enumerate(pieces) if piece[:1] in b"cKMJX"]:
        place = rng.choice(values)
        pieces[place] = _changed(pieces[place], rng)
    content[:] = b"".join(pieces)


def _changed(piece: bytes, rng: Random) -> bytes:
    code = piece[:1]
    if code == b"c":
        return b"c" + rng.choice(_NAMES) + b"\n"
    if code == b"X":
        text = rng.choice(
            (b"", b"storage", b"latin1", b"f4", b"O", b"network_weights", piece[5:-1])
        )
        return b"X" + struct.pack("<I", len(text)) + text
    return b"J" + struct.pack("<i", rng.choice(_INTEGERS))


def _instructions(content: Content) -> list[bytes]:
    starts = []
    try:
        starts += [place for _, _, place in pickletools.genops(bytes(content))]
    except Exception:  # noqa: BLE001 - whatever it is, bytes are left that can be harmed
        return []
    ends = [*starts[1:], len(content)]
    return [bytes(content[a:b]) for a, b in zip(starts, ends, strict=True)]
