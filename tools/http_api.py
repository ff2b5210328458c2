"""Write the tables of docs/http_api.md from the types and lists that serve the requests."""


def endpoints() -> str:
    """List every path of the API."""
    from banyan.gateway.endpoints import ENDPOINTS  # noqa: PLC0415

    rows = [f"| `{point.method} {point.path}` | {point.summary} |" for point in ENDPOINTS]
    return "\n".join(["| path | what it does |", "|---|---|", *rows])


def request_fields() -> str:
    """List the fields of every request, those served and those refused."""
    from banyan.gateway.endpoints import ENDPOINTS  # noqa: PLC0415
    from banyan.gateway.wire.body import fields_not_served  # noqa: PLC0415
    from banyan.gateway.wire.caller import NO_EFFECT  # noqa: PLC0415

    lines = ["| request | served | no effect | refused |", "|---|---|---|---|"]
    for point in ENDPOINTS:
        if point.asked is None:
            continue
        names = sorted(point.asked.__struct_fields__)
        refused = {name for name, _ in fields_not_served(point.asked)}
        # Responses are stored, and give their metadata back.
        used = {"store", "metadata"} if point.path == "/v1/responses" else set()
        idle = {name for name in names if name in NO_EFFECT} - used
        served = [name for name in names if name not in refused | idle]
        cells = (served, sorted(idle), sorted(refused))
        words = " | ".join(" ".join(f"`{name}`" for name in cell) for cell in cells)
        lines.append(f"| `{point.path}` | {words} |")
    return "\n".join(lines)


def metrics() -> str:
    """List every metric under all of its names."""
    from banyan.gateway.metrics.families import all_families  # noqa: PLC0415

    lines = ["| ours | vLLM's | kind | labels | what it is |", "|---|---|---|---|---|"]
    for family in all_families():
        end = "_total" if family.kind == "counter" else ""
        ours = f"`banyan_{family.ours}{end}`" if family.ours else ""
        theirs = " ".join(f"`vllm:{name}{end}`" for name in family.vllm)
        labels = " ".join(f"`{label}`" for label in family.labels)
        lines.append(f"| {ours} | {theirs} | {family.kind} | {labels} | {family.meaning} |")
    return "\n".join(lines)
