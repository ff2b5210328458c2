import pytest

from banyan.engine.options import EngineOptions
from banyan.engine.pooling.prompt import PoolingPrompt
from banyan.engine.process.building import WriterOfNothing, build
from banyan.engine.process.messages import EngineSettings
from banyan.engine.sampling import SamplingOptions
from banyan.foundation.errors import ModelError, RequestError


def settings(model: str, *, max_model_len: int | None = None) -> EngineSettings:
    options = EngineOptions(max_model_len=max_model_len, max_num_seqs=2)
    return EngineSettings(model=model, options=options, cache_directory="/none")


def test_the_fake_model_writes_and_does_not_embed() -> None:
    served = build(settings("fake", max_model_len=32), lambda *_: None)
    assert (served.model.kind, served.model.max_model_len) == ("decoder", 32)
    assert served.engine.statistics().num_blocks == 4
    served.engine.add_request("a", [1, 2], SamplingOptions(max_tokens=1, ignore_eos=True))
    assert served.engine.step()[0].finish_reason == "length"
    with pytest.raises(RequestError, match="makes no embeddings"):
        served.pooling.add_request("b", [PoolingPrompt((1,))])
    served.close()


def test_a_missing_directory_is_refused_with_one_sentence() -> None:
    with pytest.raises(ModelError, match="/nowhere"):
        build(settings("/nowhere"), lambda *_: None)


def test_an_encoder_refuses_to_write() -> None:
    engine = WriterOfNothing()
    with pytest.raises(RequestError, match="answers no prompts"):
        engine.add_request("a", [1], SamplingOptions())
    engine.cancel("a")
    assert (engine.step(), engine.has_work(), engine.statistics().num_blocks) == ([], False, 0)
