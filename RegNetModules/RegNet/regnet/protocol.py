"""The worker's protocol: one JSON object per line, requests on its standard input, events on its standard output.

Matrices are 4x4, row by row, and take voxel index (i, j, k, 1) or world points to LPS millimetres. Arrays travel as
``.npy`` files (no pickled objects) inside the private folder that the request names; files are named relative to it.
A registration can name a second one, of files that outlive the request: what was read from them is not read again.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

Row = Annotated[list[float], Field(min_length=4, max_length=4)]
Matrix = Annotated[list[Row], Field(min_length=4, max_length=4)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class ArrayFile(_Strict):
    """A volume: ``file`` holds (D, H, W) or (C, D, H, W); 2D images have D = 1 and ``ndim`` 2."""

    file: str = Field(min_length=1)
    index_to_world: Matrix
    ndim: Literal[2, 3] = 3


class ImageFile(ArrayFile):
    """Of an image that is registered. A ``kept`` one lies in the request's ``kept_folder``: its file is never written
    again once it is there, so that the worker may hold on to what it has read for the requests that follow. When it
    lets go of it is the worker's to decide, and so the file has to stay until the last request that names it is over.
    """

    kept: bool = False


class Colours(_Strict):
    """See :class:`regnet.colour_table.ColourTable`."""

    low: float
    high: float
    colours: list[Annotated[list[float], Field(min_length=3, max_length=3)]] = Field(min_length=2)


class RegisterRequest(_Strict):
    """Register ``moving`` to ``fixed``. The options are those of :func:`regnet.register`; with ``preview`` the present
    state of the alignment, and of a dense model, is sent now and then, see :class:`PreviewEvent`."""

    command: Literal["register"]
    id: str = Field(min_length=1)
    folder: str = Field(min_length=1)
    kept_folder: str | None = Field(default=None, min_length=1)
    fixed: ImageFile
    moving: ImageFile
    fixed_mask: ArrayFile | None = None
    moving_mask: ArrayFile | None = None
    region: ArrayFile | None = None
    taper: float = 10.0
    model: str = "avsm"
    align: str = "auto"
    refine: str | int = "auto"
    parameters: dict[str, Any] = Field(default_factory=dict)
    device: str = "auto"
    seed: int = 0
    memory_mb: float | None = None
    colours: Colours | None = None
    preview: bool = False

    @model_validator(mode="after")
    def _names_the_kept_folder(self) -> RegisterRequest:
        if self.kept_folder is None and (self.fixed.kept or self.moving.kept):
            raise ValueError("an image is kept, but the request names no kept_folder")
        return self


class FuseRequest(_Strict):
    """Fuse images. The options are those of :func:`regnet.fusing.fuse`.

    ``displacement``, (D, H, W, 3) in mm, leads from the fixed image's points to the moving image's; without it they lie
    on each other in the world.
    """

    command: Literal["fuse"]
    id: str = Field(min_length=1)
    folder: str = Field(min_length=1)
    fixed: ArrayFile
    moving: ArrayFile
    displacement: ArrayFile | None = None
    colours: Colours | None = None
    weights: str = "ct-mri"
    mode: str = "auto"
    device: str = "auto"
    memory_mb: float | None = None


class Lattice(_Strict):
    """The voxels of a volume without their values: ``shape`` is (D, H, W)."""

    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=3, max_length=3)]
    index_to_world: Matrix
    ndim: Literal[2, 3] = 3


class Step(_Strict):
    """A transform as in :class:`DoneResult`: a point x goes to ``affine`` (x + displacement(x))."""

    affine: Matrix
    displacement: ArrayFile | None = None


class SegmentEntry(_Strict):
    """The voxels of one layer that have the ``value``."""

    value: int
    layer: int = Field(default=0, ge=0)
    name: str = ""


class PropagateRequest(_Strict):
    """Carry label maps onto another lattice with transforms that are known.

    ``labels`` holds whole numbers, (D, H, W) or (layers, D, H, W). ``transforms`` are applied in their order and lead
    from points of ``target`` to points of ``labels``: where the target was registered as the fixed image to the scan as
    the moving one, it is that result. ``segments`` in their order decide ties and name the rows of the report; without
    them every value is a segment. ``reference``, labels of the target, asks for Dice and HD95 of the segments with the
    same name, or else value; ``reference_segments`` are its own, those of ``labels`` where none are given.
    """

    command: Literal["propagate"]
    id: str = Field(min_length=1)
    folder: str = Field(min_length=1)
    labels: ArrayFile
    target: Lattice
    transforms: list[Step] = Field(default_factory=list)
    segments: list[SegmentEntry] = Field(default_factory=list)
    reference: ArrayFile | None = None
    reference_segments: list[SegmentEntry] = Field(default_factory=list)
    interpolation: str = "smooth"


class JudgeRequest(_Strict):
    """Judge a registration as :func:`regnet.judge.judge` does: ``transforms``, as in :class:`PropagateRequest`, lead
    from points of ``fixed`` to points of ``moving``. ``before`` is where those lay before, ``run`` the report of the
    run that made them. With labels of both sides also their Dice and HD95; with ``page`` a page, for both ``names``.
    """

    command: Literal["judge"]
    id: str = Field(min_length=1)
    folder: str = Field(min_length=1)
    fixed: ArrayFile
    moving: ArrayFile
    transforms: list[Step] = Field(default_factory=list)
    before: Matrix | None = None
    run: dict[str, Any] | None = None
    fixed_labels: ArrayFile | None = None
    fixed_segments: list[SegmentEntry] = Field(default_factory=list)
    moving_labels: ArrayFile | None = None
    moving_segments: list[SegmentEntry] = Field(default_factory=list)
    page: bool = False
    names: Annotated[list[str], Field(min_length=2, max_length=2)] = ["fixed", "moving"]


Point = Annotated[list[float], Field(min_length=3, max_length=3)]


class CorrectRequest(_Strict):
    """Correct a registration. The options are those of :func:`regnet.correct.correct`.

    ``transforms``, applied in their order, lead from points of ``fixed`` to points of ``moving``; points are in LPS mm.
    """

    command: Literal["correct"]
    id: str = Field(min_length=1)
    folder: str = Field(min_length=1)
    fixed: ArrayFile
    moving: ArrayFile
    transforms: list[Step] = Field(min_length=1)
    fixed_points: list[Point] = Field(default_factory=list)
    moving_points: list[Point] = Field(default_factory=list)
    region: ArrayFile | None = None
    mode: str = "soft"
    reach: float | None = None
    images: bool | None = None
    similarity: str = "mind"
    device: str = "auto"


class CancelRequest(_Strict):
    """Stop the request ``target``, running or waiting. It answers with ``failed`` of kind ``cancelled``."""

    command: Literal["cancel"]
    id: str = ""
    target: str


class StopRequest(_Strict):
    """End the optimisation of the request ``target`` before its next iteration: what it has reached becomes the result,
    and the answer is ``done``. What is not optimising goes on to its end."""

    command: Literal["stop"]
    id: str = ""
    target: str


class PingRequest(_Strict):
    """Answered with ``pong`` at once, also while a registration runs or torch is still loading."""

    command: Literal["ping"]
    id: str = ""


class WarmRequest(_Strict):
    """Load, while there is nothing else to do, what the first registration by ``model`` would wait for.

    Any other request goes first: what is not loaded by then is loaded by that request, or never. Answered with ``warm``
    either way.
    """

    command: Literal["warm"]
    id: str = Field(min_length=1)
    model: str = "avsm"


class ShutdownRequest(_Strict):
    """Cancel what runs, drop what waits, and exit."""

    command: Literal["shutdown"]
    id: str = ""


Job = RegisterRequest | FuseRequest | PropagateRequest | JudgeRequest | CorrectRequest | WarmRequest
"""What is worked on one after the other."""
Request = Job | CancelRequest | StopRequest | PingRequest | ShutdownRequest
_REQUESTS: TypeAdapter[Request] = TypeAdapter(Annotated[Request, Field(discriminator="command")])


class ReadyEvent(BaseModel):
    event: Literal["ready"] = "ready"
    version: str
    device: str


class PongEvent(BaseModel):
    event: Literal["pong"] = "pong"
    id: str


class WarmEvent(BaseModel):
    """The answer to a :class:`WarmRequest`; ``complete`` unless it gave way to another request, or could not be."""

    event: Literal["warm"] = "warm"
    id: str
    complete: bool


class ProgressEvent(BaseModel):
    """``fraction`` of all the work in [0, 1], never smaller than the one before; ``can_stop`` where a
    :class:`StopRequest` would take effect now."""

    event: Literal["progress"] = "progress"
    id: str
    fraction: float
    stage: str
    text: str = ""
    can_stop: bool = False


class PreviewEvent(BaseModel):
    """The present transform, as in :class:`DoneResult` but coarse; beyond its grid the displacement goes on as at the
    border. The file lives until the second preview after it at least, and no longer than the request."""

    event: Literal["preview"] = "preview"
    id: str
    stage: str
    affine: Matrix
    displacement: ArrayFile


class MessageEvent(BaseModel):
    event: Literal["message"] = "message"
    id: str
    level: Literal["info", "warning"]
    text: str


class DoneResult(BaseModel):
    """The transform takes a fixed point x to ``affine`` (x + displacement(x)); ``displacement`` is (D, H, W, 3) in mm.

    ``warped`` is the moving image on the fixed grid, in its own intensities. ``fused`` shows both images in one, of one
    channel or in red, green and blue. ``synthetic`` is the warped image translated to another contrast by a network, in
    [0, 1]: it was not acquired, and a host must not show it as if it had been.
    """

    affine: Matrix
    displacement: ArrayFile | None
    warped: ArrayFile
    fused: ArrayFile | None = None
    synthetic: ArrayFile | None = None
    report: dict[str, Any]


class FusedResult(BaseModel):
    """The answer to a :class:`FuseRequest`; ``fused`` as in :class:`DoneResult`."""

    fused: ArrayFile
    report: dict[str, Any]


class PropagatedResult(BaseModel):
    """The answer to a :class:`PropagateRequest`: (layers, D, H, W) on the target's lattice, label values kept."""

    labels: ArrayFile
    report: dict[str, Any]


class JudgedResult(BaseModel):
    """The answer to a :class:`JudgeRequest`: maps by name, and the name of the page's file in the request's folder."""

    maps: dict[str, ArrayFile]
    page: str | None = None
    report: dict[str, Any]


class CorrectedResult(BaseModel):
    """The answer to a :class:`CorrectRequest`: what takes the place of its ``transforms``."""

    transforms: list[Step]
    report: dict[str, Any]


Result = DoneResult | FusedResult | PropagatedResult | JudgedResult | CorrectedResult


class DoneEvent(BaseModel):
    event: Literal["done"] = "done"
    id: str
    result: Result


class FailedEvent(BaseModel):
    """``text`` is one sentence for the user. ``id`` is empty where the request could not be understood."""

    event: Literal["failed"] = "failed"
    id: str
    kind: Literal["input", "model", "memory", "cancelled", "error"]
    text: str


Event = ReadyEvent | PongEvent | WarmEvent | ProgressEvent | PreviewEvent | MessageEvent | DoneEvent | FailedEvent


def parse_request(line: str) -> Request:
    """The request in one line.

    Raises:
        ValueError: not JSON, an unknown command, or a field that is missing, unknown or of the wrong type; its text is
            one sentence that names the first such field.
    """
    try:
        return _REQUESTS.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"The request is not valid: {first['msg']}{f' (at {where})' if where else ''}.") from None


def encode(event: Event) -> str:
    """One line of JSON with its line end."""
    return event.model_dump_json() + "\n"
