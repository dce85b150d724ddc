"""How good a registration is: overlap, surface distance, landmark error, similarity and regularity.

Everything here is NumPy and SciPy; arrays are (D, H, W) or (H, W), distances are millimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from .errors import InputError

# Determinants below this count as this in logarithms; a folded voxel then weighs a lot but stays finite.
SMALLEST_DETERMINANT = 1e-9
# Voxels handled at a time where whole-volume temporaries would cost more than the volume itself.
_CHUNK = 1 << 20

PointMap = Callable[[np.ndarray], np.ndarray]


def shared_labels(a: np.ndarray, b: np.ndarray) -> list[int]:
    """The label ids other than 0 that occur in both label maps, which may have different shapes.

    For a fair score pass the *unwarped* moving labels: a label that the warp has lost then still counts, as a zero.
    """
    ids = np.intersect1d(_label_ids(_label_map(a)), _label_ids(_label_map(b)))
    return [int(i) for i in ids if i != 0]


def dice(a: np.ndarray, b: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Dice overlap 2|A∩B| / (|A|+|B|) per label.

    Args:
        a, b: integer label maps of one shape.
        labels: ids to score; by default all ids but 0 that both maps contain.

    Returns:
        Label id → Dice in [0, 1]; 0 where only one map has the label, NaN where neither has it.
    """
    a, b, ids = _pair(a, b, labels)
    joint = _joint_histogram(a, b, ids)
    both = np.diagonal(joint)[1:]
    either = joint.sum(axis=0)[1:] + joint.sum(axis=1)[1:]
    return {i: float(2 * n / s) if s else float("nan") for i, n, s in zip(ids, both, either, strict=True)}


def hd95(
    a: np.ndarray, b: np.ndarray, spacing: Iterable[float], labels: Iterable[int] | None = None
) -> dict[int, float]:
    """95th percentile Hausdorff distance between the surfaces of each label, in mm.

    The larger of the two directed 95th percentiles, over surface voxel centres, so that it is symmetric in ``a`` and
    ``b``. A surface voxel is one of the label with a face on something else, or on the border of the image.

    Args:
        a, b: integer label maps of one shape.
        spacing: voxel size in mm along the array's axes, so (z, y, x).
        labels: ids to score; by default all ids but 0 that both maps contain.

    Returns:
        Label id → distance; infinity where only one map has the label, NaN where neither has it.
    """
    from scipy import ndimage

    a, b, ids = _pair(a, b, labels)
    spacing = tuple(float(s) for s in spacing)
    if len(spacing) != a.ndim:
        raise InputError(f"The spacing {spacing} has {len(spacing)} values for label maps of {a.ndim} dimensions.")
    boxes_a, boxes_b = (ndimage.find_objects(_compact(m, ids), max_label=len(ids)) for m in (a, b))
    result = {}
    for i, box_a, box_b in zip(ids, boxes_a, boxes_b, strict=True):
        if box_a is None or box_b is None:
            result[i] = float("nan") if box_a is box_b else float("inf")
            continue
        box = tuple(slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(box_a, box_b, strict=True))
        there, back = surface_distances(a[box] == i, b[box] == i, spacing)
        result[i] = float(max(np.percentile(there, 95), np.percentile(back, 95)))
    return result


def surface_distances(a: np.ndarray, b: np.ndarray, spacing: Iterable[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distances in mm from each surface voxel of mask ``a`` to the surface of mask ``b``, and the other way round.

    Both masks must hold something. Outside of the arrays counts as background.
    """
    # Imported here: it takes as long as a small registration's alignment, and most runs never ask for it.
    from scipy import ndimage

    surface_a, surface_b = (mask & ~ndimage.binary_erosion(mask) for mask in (np.asarray(a, bool), np.asarray(b, bool)))
    to_a, to_b = (ndimage.distance_transform_edt(~surface, tuple(spacing)) for surface in (surface_a, surface_b))
    return to_b[surface_a], to_a[surface_b]


def _label_map(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    if image.dtype == bool:
        return image.astype(np.uint8)
    if not np.issubdtype(image.dtype, np.integer):
        whole = image.astype(np.int32)
        if not np.array_equal(whole, image):
            raise InputError(f"A label map holds whole numbers, and this one of type {image.dtype} does not.")
        return whole
    return image


def _label_ids(image: np.ndarray) -> np.ndarray:
    """Sorted ids; counted when their range allows, which is several times faster than sorting all voxels."""
    if image.size == 0:
        return np.empty(0, dtype=np.int64)
    low, high = int(image.min()), int(image.max())
    if high - low > _CHUNK:
        return np.unique(image)
    seen = np.zeros(high - low + 1, dtype=bool)
    flat = image.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        seen[flat[start : start + _CHUNK].astype(np.int64) - low] = True
    return np.flatnonzero(seen) + low


def _pair(a: np.ndarray, b: np.ndarray, labels: Iterable[int] | None) -> tuple[np.ndarray, np.ndarray, list[int]]:
    a, b = _label_map(a), _label_map(b)
    if a.shape != b.shape:
        raise InputError(f"The label maps have different shapes, {a.shape} and {b.shape}; resample one onto the other.")
    ids = shared_labels(a, b) if labels is None else sorted({int(i) for i in labels})
    return a, b, ids


def _compact(image: np.ndarray, ids: list[int]) -> np.ndarray:
    """``image`` with ``ids`` renumbered 1…n in their order and everything else 0."""
    if not ids:
        return np.zeros(image.shape, dtype=np.uint16)
    wanted = np.asarray(ids, dtype=np.int64)
    low, high = min(int(image.min()), ids[0]), max(int(image.max()), ids[-1])
    if high - low <= _CHUNK:
        table = np.zeros(high - low + 1, dtype=np.uint16 if len(ids) < 65536 else np.int32)
        table[wanted - low] = np.arange(1, len(ids) + 1)
        return table[image.astype(np.int64) - low if low else image]
    place = np.searchsorted(wanted, image).clip(max=len(ids) - 1)
    return np.where(wanted[place] == image, place + 1, 0)


def _joint_histogram(a: np.ndarray, b: np.ndarray, ids: list[int]) -> np.ndarray:
    """Voxel counts (n+1, n+1): how often ``ids[r-1]`` of ``a`` meets ``ids[c-1]`` of ``b``; index 0 is any other id."""
    n = len(ids) + 1
    counts = np.zeros(n * n, dtype=np.int64)
    flat_a, flat_b = a.reshape(-1), b.reshape(-1)
    for start in range(0, flat_a.size, max(_CHUNK, n * n)):
        part = slice(start, start + max(_CHUNK, n * n))
        index = _compact(flat_a[part], ids).astype(np.int64)
        index *= n
        index += _compact(flat_b[part], ids)
        counts += np.bincount(index, minlength=n * n)
    return counts.reshape(n, n)


def tre(transform: PointMap, fixed_points: np.ndarray, moving_points: np.ndarray) -> np.ndarray:
    """Target registration error in mm, (N,): how far each fixed landmark (N, 3) lands from its moving landmark.

    ``transform`` maps fixed world points (N, 3) to moving world points; both in the same LPS millimetres.
    """
    fixed_points, moving_points = np.asarray(fixed_points, float), np.asarray(moving_points, float)
    if fixed_points.shape != moving_points.shape:
        raise InputError(
            f"There are {len(fixed_points)} fixed and {len(moving_points)} moving landmarks; they must come in pairs."
        )
    return np.linalg.norm(np.asarray(transform(fixed_points)) - moving_points, axis=1)


def inverse_consistency(forward: PointMap, inverse: PointMap, points: np.ndarray) -> np.ndarray:
    """How far, in mm, each point (N, 3) is from itself after ``forward`` and then ``inverse``; (N,)."""
    points = np.asarray(points, float)
    return np.linalg.norm(np.asarray(inverse(forward(points))) - points, axis=1)


def ncc(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Normalised cross-correlation (Pearson's) of two images of one shape, in [-1, 1]; 0 if either is constant."""
    a, b = _values(a, b, mask)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.dot(a, a) * np.dot(b, b)))
    return float(np.dot(a, b) / scale) if scale > 0 else 0.0


def mutual_information(a: np.ndarray, b: np.ndarray, bins: int = 32, mask: np.ndarray | None = None) -> float:
    """Mutual information in nats from a ``bins`` × ``bins`` joint histogram over each image's own range."""
    a, b = _values(a, b, mask)
    index = _bin(a, bins) * bins + _bin(b, bins)
    joint = np.bincount(index, minlength=bins * bins).reshape(bins, bins) / index.size
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    filled = joint > 0
    return float(np.sum(joint[filled] * np.log(joint[filled] / independent[filled])))


def _values(a: np.ndarray, b: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The voxels of both images inside ``mask`` as float64 vectors."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise InputError(f"The images have different shapes, {a.shape} and {b.shape}; resample one onto the other.")
    keep = slice(None) if mask is None else np.asarray(mask, bool).reshape(-1)
    a, b = a.reshape(-1)[keep].astype(np.float64), b.reshape(-1)[keep].astype(np.float64)
    if a.size == 0:
        raise InputError("There is nothing to compare: the images or the mask are empty.")
    return a, b


def _bin(values: np.ndarray, bins: int) -> np.ndarray:
    low, high = values.min(), values.max()
    if high == low:
        return np.zeros(values.size, dtype=np.int64)
    return ((values - low) * (bins / (high - low))).astype(np.int64).clip(max=bins - 1)


def folding_percent(determinant: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Percentage of voxels whose Jacobian determinant is not positive; not-a-number counts as folded."""
    values = _inside(determinant, mask)
    return 100.0 * float(values.size - np.count_nonzero(values > 0)) / values.size


def sdlogj(determinant: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Standard deviation of the logarithm of the Jacobian determinant, clipped below at 1e-9.

    A global scale, so any affine part of the transform, leaves it unchanged.
    """
    values = np.maximum(_inside(determinant, mask), np.float32(SMALLEST_DETERMINANT))
    return float(np.std(np.log(values), dtype=np.float64))


def _inside(determinant: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    values = np.asarray(determinant)
    values = values.reshape(-1) if mask is None else values[np.asarray(mask, bool)]
    if values.size == 0:
        raise InputError("The mask leaves no voxel to judge the deformation by.")
    return values


def jacobian_determinant(displacement: np.ndarray, index_to_world: np.ndarray) -> np.ndarray:
    """Determinant of the Jacobian of x ↦ x + u(x) at every voxel, for any spacing and orientation of the grid.

    Central differences inside and one-sided ones at the border; an axis of one voxel counts as constant, so a 2D
    field with D = 1 gives the 2D determinant.

    With M the 3×3 part of ``index_to_world`` and G the derivatives of u by voxel index, the Jacobian is I + G M⁻¹ and
    its determinant det(M + G) / det(M): one triple product of columns, with no matrix per voxel.

    Args:
        displacement: (D, H, W, 3) in mm, components (x, y, z) in world axes.
        index_to_world: 4×4 (or 3×3), voxel index (i, j, k) to world mm.

    Returns:
        (D, H, W) float32; 1 where volume is kept, below 1 where the mapping contracts, not positive where it folds.
    """
    displacement = np.asarray(displacement)
    if displacement.ndim != 4 or displacement.shape[-1] != 3:
        raise InputError(f"A displacement field has the shape (D, H, W, 3), not {displacement.shape}.")
    matrix = np.asarray(index_to_world, dtype=np.float64)[:3, :3]
    depth = displacement.shape[0]
    result = np.empty(displacement.shape[:3], dtype=np.float32)
    step = max(1, _CHUNK // 4 // max(1, displacement[0, ..., 0].size))
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        result[start:stop] = _slab_determinant(displacement, matrix, start, stop)
    return result


def _slab_determinant(displacement: np.ndarray, matrix: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Determinants of the planes ``start`` to ``stop``; slabs keep nine derivative volumes from existing at once."""
    low, high = max(start - 1, 0), min(stop + 1, displacement.shape[0])
    # Components first and contiguous: every operation below then runs over plain memory.
    slab = np.ascontiguousarray(np.moveaxis(displacement[low:high], -1, 0), dtype=np.float32)
    own = slab[:, start - low : stop - low]
    ai, bi, ci = _derivative(own, 3, matrix[:, 0])
    aj, bj, cj = _derivative(own, 2, matrix[:, 1])
    ak, bk, ck = _derivative(slab, 1, matrix[:, 2])[:, start - low : stop - low]
    result = ai * (bj * ck - cj * bk)
    result += bi * (cj * ak - aj * ck)
    result += ci * (aj * bk - bj * ak)
    result /= np.float32(np.linalg.det(matrix))
    return result


def _derivative(field: np.ndarray, axis: int, column: np.ndarray) -> np.ndarray:
    """d(``field``)/d(index along ``axis``) + ``column``; ``field`` is (3, D, H, W), ``column`` belongs to the axis."""
    size = field.shape[axis]
    result = np.zeros_like(field)
    if size > 1:
        source, target = np.moveaxis(field, axis, 0), np.moveaxis(result, axis, 0)
        np.subtract(source[2:], source[:-2], out=target[1:-1])
        target[1:-1] *= np.float32(0.5)
        np.subtract(source[1], source[0], out=target[0])
        np.subtract(source[-1], source[-2], out=target[-1])
    result += column.astype(np.float32)[:, None, None, None]
    return result
