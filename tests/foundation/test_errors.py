import inspect

from banyan.foundation import errors


def test_every_error_is_a_banyan_error_and_is_drawn_in_the_tree() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    assert classes
    for kind in classes:
        assert issubclass(kind, errors.BanyanError)
        assert kind.__name__ in (errors.__doc__ or "")


def test_a_request_error_names_the_field_at_fault() -> None:
    assert errors.RequestError("too long", parameter="prompt").parameter == "prompt"
    assert errors.RequestError("too long").parameter is None


def test_callers_who_know_only_python_can_catch_ours() -> None:
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.EnvironmentProblem, RuntimeError)
