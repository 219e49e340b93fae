# SPDX-License-Identifier: Apache-2.0
"""Turns the lines of the measuring program into the Markdown tables of docs/passphrase-check.md."""

import re
import sys

CLUSTERS = ["512", "4k", "64k", "2M"]
WORDS = {"plausible": "plausible", "implausible": "implausible", "cannotTell": "cannot tell"}

# What a disk holds decides what the check can know. First match wins.
KINDS = [
    ("nothing encrypted or nothing written", r"empty|zero-clusters|ext4-all-compressed"),
    ("nothing but noise", r"random|xz-|mp4-|one-cluster-of-random"),
    ("a partition table, file system or label", r"(mbr|gpt)-without-filesystem"),
    ("other data", r".*-without-filesystem|zeros-written|one-cluster-of-text|ext4-compressed-then-written"),
    ("a partition table, file system or label", r""),
]

rows, kinds = {}, {}
slowest = 0
for line in sys.stdin:
    name, verdict, summary, _, plausible, implausible, cannot, _, milliseconds = line.rstrip("\n").split("\t")
    contents, cluster = name.removesuffix(".qcow2").split("@")
    wrong = {"plausible": int(plausible), "implausible": int(implausible), "cannotTell": int(cannot)}
    kind = next(kind for kind, pattern in KINDS if re.match(pattern, contents))
    rows.setdefault((kind, contents), {})[cluster] = (verdict, wrong, summary)
    total = kinds.setdefault(kind, {"images": 0, "right": dict.fromkeys(WORDS, 0), "wrong": dict.fromkeys(WORDS, 0)})
    total["images"] += 1
    total["right"][verdict] += 1
    for key, count in wrong.items():
        total["wrong"][key] += count
    slowest = max(slowest, int(milliseconds))


def by_cluster(cells, text):
    """One word when all cluster sizes agree."""
    texts = {}
    for cluster in CLUSTERS:
        if cluster in cells:
            texts.setdefault(text(cells[cluster]), []).append(cluster)
    if len(texts) == 1:
        return next(iter(texts))
    return "; ".join(f"{text} ({', '.join(clusters)})" for text, clusters in texts.items())


def wrong_text(cell):
    counts = [(WORDS[key], count) for key, count in cell[1].items() if count]
    return ", ".join(key if len(counts) == 1 else f"{key} {count}" for key, count in counts)


print("| the disk holds | images | right: plausible | cannot tell | implausible | wrong: plausible | cannot tell | implausible |")
print("|---|---|---|---|---|---|---|---|")
for kind in dict.fromkeys(reversed([kind for kind, _ in KINDS])):
    if kind not in kinds:
        continue
    total = kinds[kind]
    numbers = [total[side][key] for side in ("right", "wrong") for key in ("plausible", "cannotTell", "implausible")]
    print(f"| {kind} | {total['images']} | " + " | ".join(str(number) for number in numbers) + " |")
print(f"\nThe slowest check took {slowest} ms.\n")
print("| contents | right passphrase | wrong passphrases | what the check says with the right one |")
print("|---|---|---|---|")
for (_, contents), cells in sorted(rows.items()):
    shown = next(cells[cluster] for cluster in ("64k", "4k", "2M", "512") if cluster in cells)
    right, wrong = by_cluster(cells, lambda cell: WORDS[cell[0]]), by_cluster(cells, wrong_text)
    print(f"| {contents} | {right} | {wrong} | {shown[2]} |")
