"""Cards as their makers describe them: memory, bandwidth, peaks, power, and who said so.

For plans over devices that nobody has at hand: an inventory names a card, and these numbers
stand in until a profile is measured. A peak is what the maker claims for dense matrices; real
kernels reach a part of it. Nothing here was measured by Banyan.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from banyan.foundation.errors import InputError

MEBIBYTE = 1024 * 1024

NVIDIA = "NVIDIA data sheet"
AMD = "AMD data sheet"
INTEL = "Intel data sheet"
COLLECTED = "collected data sheets (github.com/ying-wen/evokernel-spec)"
SURVEY = "survey of the FlagOS project, 2026"
CLOUD = "cloud operator's product pages (ai.gitee.com/docs/compute)"

_DENSE_16 = ("float16", "bfloat16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One card, as described.

    Attributes:
        name: what an inventory calls it: "h200", "ascend-910b".
        vendor: who makes it.
        chip: the family in `banyan devices` whose probe finds it.
        memory_bytes: what the driver shows of it where a sample says so, else what is sold.
        read_bytes_per_second: from its own memory; None where nobody published it.
        operations_per_second: dtype -> multiplications and additions of dense matrices; empty
            where nobody published them.
        watts: the limit of its electric power; None where nobody published it.
        source: who said so.
        note: where sources disagree, what else is claimed.
        aliases: other names, among them what the vendor's tool prints.
    """

    name: str
    vendor: str
    chip: str
    memory_bytes: int
    read_bytes_per_second: float | None
    operations_per_second: tuple[tuple[str, float], ...]
    watts: float | None
    source: str
    note: str = ""
    aliases: tuple[str, ...] = ()

    def peaks(self) -> dict[str, float]:
        """Operations per second by dtype."""
        return dict(self.operations_per_second)


def known_cards() -> tuple[Card, ...]:
    """Every card that is described, by vendor."""
    return _CARDS


def match_card(model: str) -> Card | None:
    """Find the card that a person or a vendor's tool means by `model`; None when it is unknown."""
    key = _key(model)
    for card in _CARDS:
        if key in {_key(name) for name in (card.name, *card.aliases)}:
            return card
    return None


def find_card(name: str) -> Card:
    """Find a card by name; case, spaces, dashes and the vendor's name do not matter.

    Raises:
        InputError: no such card is described; names the nearest.
    """
    card = match_card(name)
    if card is not None:
        return card
    names = [card.name for card in _CARDS]
    near = difflib.get_close_matches(name.lower(), names, n=4, cutoff=0.4) or names[:4]
    raise InputError(
        f"card {name!r} is not among the {len(names)} described ones; the nearest are "
        f"{', '.join(near)}; name one of them, or write its memory, bandwidth and rates yourself"
    )


def _key(name: str) -> str:
    words = re.sub(r"\b(nvidia|amd|intel|huawei|instinct|geforce|corporation)\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]", "", words)


def _card(
    name: str,
    vendor: tuple[str, str],
    mebibytes: int,
    gigabytes_per_second: float | None,
    tera: Sequence[tuple[str | tuple[str, ...], float]],
    watts: float | None,
    source: str,
    /,
    *aliases: str,
    note: str = "",
) -> Card:
    rates = [
        (dtype, rate * 1e12)
        for dtypes, rate in tera
        for dtype in ((dtypes,) if isinstance(dtypes, str) else dtypes)
    ]
    return Card(
        name=name,
        vendor=vendor[0],
        chip=vendor[1],
        memory_bytes=mebibytes * MEBIBYTE,
        read_bytes_per_second=gigabytes_per_second and gigabytes_per_second * 1e9,
        operations_per_second=tuple(rates),
        watts=watts,
        source=source,
        note=note,
        aliases=aliases,
    )


def _gibi(gibibytes: int) -> int:
    return gibibytes * 1024


_NVIDIA = ("NVIDIA", "cuda")
_AMD = ("AMD", "amd")
_ASCEND = ("Huawei", "ascend")
_ENFLAME = ("Enflame", "enflame")
_ILUVATAR = ("Iluvatar", "iluvatar")
_CAMBRICON = ("Cambricon", "cambricon")
_HYGON = ("Hygon", "hygon")
_GAUDI = ("Intel", "gaudi")

# Where sources disagree the lower value stands, so that a plan promises no more than is likely.
_CARDS = (
    _card(
        "a100-80g", _NVIDIA, 81920, 2039, ((_DENSE_16, 312), ("int8", 624)), 400, NVIDIA,
        "a100", "A100-SXM4-80GB", "a100 sxm 80g",
    ),
    _card(
        "a100-40g", _NVIDIA, 40960, 1555, ((_DENSE_16, 312), ("int8", 624)), 400, NVIDIA,
        "A100-SXM4-40GB",
    ),
    _card(
        "h100", _NVIDIA, 81559, 3350, ((_DENSE_16, 989), ("float8", 1979), ("int8", 1979)), 700,
        NVIDIA, "H100 80GB HBM3", "h100 sxm",
    ),
    _card(
        "h200", _NVIDIA, 143771, 4800, ((_DENSE_16, 989), ("float8", 1979), ("int8", 1979)), 700,
        NVIDIA, "h200 sxm",
    ),
    _card(
        "b200", _NVIDIA, _gibi(180), 8000,
        ((_DENSE_16, 2250), ("float8", 4500), ("int8", 4500)), 1000, COLLECTED, "b200 sxm",
    ),
    _card(
        "l40s", _NVIDIA, _gibi(48), 864, ((_DENSE_16, 362), ("float8", 733), ("int8", 733)), 350,
        NVIDIA, note="without sparsity; collections list the sparse 8-bit figure, 1466",
    ),
    _card(
        "l4", _NVIDIA, _gibi(24), 300, ((_DENSE_16, 121), ("float8", 242), ("int8", 242)), 72,
        NVIDIA, note="half of the sparse figures on the sheet",
    ),
    _card("t4", _NVIDIA, _gibi(16), 320, (("float16", 65), ("int8", 130)), 70, NVIDIA, "Tesla T4"),
    _card(
        "rtx-4090", _NVIDIA, _gibi(24), 1008,
        ((_DENSE_16, 165), ("float8", 330), ("int8", 660)), 450, COLLECTED,
        note="sums in float32; the sparse 8-bit figure is 1321",
    ),
    _card(
        "mi300x", _AMD, 196592, 5300, ((_DENSE_16, 1307), ("float8", 2614), ("int8", 2614)), 750,
        AMD, "Instinct MI300X OAM", "MI300X OAM",
    ),
    _card(
        "ascend-910b", _ASCEND, 65536, 1600, ((_DENSE_16, 280), ("int8", 640)), 400, CLOUD,
        "910b", "910b2", "ascend910b2", "910b3", "ascend910b3",
        note="320 (collected), 353.9 matrix unit only (vendor's issue tracker), 328 by a user",
    ),
    _card(
        "ascend-910c", _ASCEND, _gibi(96), 2400, ((_DENSE_16, 780), ("int8", 1600)), 700, COLLECTED,
        "910c", "ascend910_93", note="memory 128 GB and 3200 GB/s are claimed too",
    ),
    _card(
        "s60", _ENFLAME, 42976, 672, (), 300, "product manual of the S60, as quoted by dealers",
        "enflame-s60", "Enflame S60", note="no rates are published; 48 GB are sold, 42 GB shown",
    ),
    _card(
        "t20", _ENFLAME, _gibi(32), 1000, ((_DENSE_16, 128),), 300, SURVEY,
        "enflame-t20", note="low confidence; 1600 GB/s is claimed too, 128 may be the TF32 rate",
    ),
    _card(
        "t21", _ENFLAME, _gibi(32), 1200, ((_DENSE_16, 192), ("int8", 384)), 400, COLLECTED,
        "enflame-t21", note="256 TFLOP/s, 64 GB and 1600 GB/s are claimed too",
    ),
    _card(
        "bi-v100", _ILUVATAR, _gibi(32), 1200, ((_DENSE_16, 147), ("int8", 295)), 250, SURVEY,
        "tiangai-100", "Iluvatar BI-V100",
    ),
    _card(
        "bi-v150", _ILUVATAR, _gibi(64), 896, ((_DENSE_16, 192), ("int8", 384)), 350, SURVEY,
        "tiangai-150", "Iluvatar BI-V150", note="240 and 256 TFLOP/s, 1600 GB/s are claimed too",
    ),
    _card(
        "mr-v100", _ILUVATAR, 32768, None, ((_DENSE_16, 96), ("int8", 192)), 150, CLOUD,
        "zhikai-100", "Iluvatar MR-V100", note="384 TOP/s of int8 are claimed too",
    ),
    _card(
        "mlu370-x8", _CAMBRICON, _gibi(48), 614, ((_DENSE_16, 96), ("int8", 256)), 250, COLLECTED,
        "mlu370",
    ),
    _card(
        "mlu590", _CAMBRICON, _gibi(64), 1228, ((_DENSE_16, 256), ("int8", 512)), 550, COLLECTED,
        note="314 TFLOP/s, 80 GB, 2000 and 2760 GB/s, 250 W are claimed too",
    ),
    _card(
        "k100", _HYGON, _gibi(64), 896, ((_DENSE_16, 100), ("int8", 200)), 300, SURVEY,
        "hygon-k100", note="192 TFLOP/s, 96 GB and 2400 GB/s of a collection do not fit a sample",
    ),
    _card(
        "k100-ai", _HYGON, 65520, 896, ((_DENSE_16, 192), ("int8", 392)), 400, SURVEY,
        "hygon-k100-ai", "K100_AI", note="bandwidth up to 1200 GB/s is claimed",
    ),
    _card("bw1000", _HYGON, _gibi(64), 1600, (("float16", 480),), 300, CLOUD, "hygon-bw1000"),
    _card(
        "c500", ("MetaX", "metax"), 65536, 1800, ((_DENSE_16, 128), ("int8", 560)), 450, COLLECTED,
        "mxc500", "metax-c500", note="240 and 280 TFLOP/s, 350 W are claimed too",
    ),
    _card(
        "s4000", ("Moore Threads", "moore_threads"), _gibi(48), 768,
        ((_DENSE_16, 100), ("int8", 200)), 450, COLLECTED, "mtt-s4000",
    ),
    _card(
        "p800", ("Kunlunxin", "kunlunxin"), _gibi(96), 1500, ((_DENSE_16, 345),), 400, SURVEY,
        "kunlun-p800", "P800 OAM", note="64 and 128 GB, 1800 GB/s are claimed too",
    ),
    _card(
        "ppu-zw810e", ("T-Head", "t_head"), 98304, None, (), 400,
        "sample of the vendor's library (github.com/gpustack/runtime)", note="no rates published",
    ),
    _card(
        "gaudi-2", _GAUDI, _gibi(96), 2450, ((_DENSE_16, 432), ("float8", 865)), 600, INTEL,
        "gaudi2", "HL-225",
    ),
    _card(
        "gaudi-3", _GAUDI, _gibi(128), 3700, ((_DENSE_16, 1835), ("float8", 1835)), 900, INTEL,
        "gaudi3", "HL-325L",
    ),
    _card(
        "max-1550", ("Intel", "intel"), _gibi(128), 3277, ((_DENSE_16, 839), ("int8", 1678)), 600,
        "from memory of Intel's announcements; no page was at hand", "Data Center GPU Max 1550",
    ),
)  # fmt: skip
