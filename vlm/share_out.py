"""Features shared out among the edits of one request, so that no two meet at one in the same place."""

from collections.abc import Mapping, Sequence

from vlm.edits import Edit

Wishes = list[tuple[int, float]]  # (feature, claim), the largest claim first


def same_place(one: Edit, other: Edit) -> bool:
    """True where two edits share an image and a part of it with an area."""
    if not same_image(one, other):
        return False
    if one.region is None or other.region is None:
        return True
    a, b = one.region, other.region
    return max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3])


def same_image(one: Edit, other: Edit) -> bool:
    return None in (one.image, other.image) or one.image == other.image


def share_out(
    edits: Sequence[Edit], wishes: Mapping[int, Wishes], ks: Mapping[int, int]
) -> dict[int, list[int]]:
    """Features of each concept edit, by proposals: each asks down its ranking until it has its k.

    A feature stays with the edit of the larger claim (tie: the earlier) among those in
    the same place, and a displaced edit asks on (Gale and Shapley 1962), so the outcome does not
    depend on who asks first.
    """
    if len(wishes) == 1:  # without a rival it has all it asks for, of kind words thousands
        return {i: [feature for feature, _ in own[: ks[i]]] for i, own in wishes.items()}
    asked = dict.fromkeys(wishes, 0)
    held: dict[int, dict[int, float]] = {i: {} for i in wishes}  # edit -> feature -> claim
    holders: dict[int, set[int]] = {}
    waiting = sorted(wishes, reverse=True)
    while waiting:
        i = waiting[-1]
        if len(held[i]) >= ks[i] or asked[i] >= len(wishes[i]):
            waiting.pop()
            continue
        feature, claim = wishes[i][asked[i]]
        asked[i] += 1
        there = holders.setdefault(feature, set())
        rivals = [r for r in there if same_place(edits[i], edits[r])]
        if any((held[r][feature], -r) > (claim, -i) for r in rivals):
            continue
        for rival in rivals:
            del held[rival][feature]
            there.remove(rival)
            waiting.insert(0, rival)
        held[i][feature] = claim
        there.add(i)
    # Each edit asked down its own wishes, so insertion order is their order.
    return {i: list(own) for i, own in held.items()}
