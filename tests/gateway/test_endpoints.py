from fastapi.routing import APIRoute

from banyan.engine.fake import FakeTokenizer
from banyan.gateway.app import create_app
from banyan.gateway.endpoints import ENDPOINTS, route_of
from banyan.gateway.openapi import api_schema
from banyan.gateway.services import GatewaySettings
from banyan.gateway.text import PromptText, plain_chat
from tests.gateway.scripted import ScriptedBackend


def routed() -> set[tuple[str, str]]:
    text = PromptText(FakeTokenizer(), plain_chat)
    app = create_app(ScriptedBackend(), text, GatewaySettings(model_name="tiny", created=7))
    found: set[tuple[str, str]] = set()
    for path, item in _paths(app.router.routes):
        found |= {(method, path) for method in item}
    return found


def _paths(routes: object) -> list[tuple[str, set[str]]]:
    assert isinstance(routes, list)
    found: list[tuple[str, set[str]]] = []
    for route in routes:
        if isinstance(route, APIRoute):
            found.append((route.path.replace(":path", ""), set(route.methods or ())))
        else:
            found += _paths(route.original_router.routes)
    return found


def test_every_route_is_listed_and_every_listed_path_is_routed() -> None:
    assert routed() == {(point.method, point.path) for point in ENDPOINTS}


def test_the_schema_names_every_endpoint_and_its_types() -> None:
    schema = api_schema()
    for point in ENDPOINTS:
        operation = schema["paths"][point.path][point.method.lower()]
        assert operation["summary"] == point.summary
        assert ("requestBody" in operation) == (point.asked is not None)
        for kind in (point.asked, point.answered):
            assert kind is None or kind.__name__ in schema["components"]["schemas"]
    (parameter,) = schema["paths"]["/v1/models/{model_id}"]["get"]["parameters"]
    assert (parameter["name"], parameter["in"]) == ("model_id", "path")


def test_a_path_is_counted_under_its_endpoint_and_any_other_under_one_name() -> None:
    assert route_of("/v1/models") == "/v1/models"
    assert route_of("/v1/models/org/name") == "/v1/models/{model_id}"
    assert route_of("/v1/modelsx") == "other"
    assert route_of("/wp-admin") == "other"
