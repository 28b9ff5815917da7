"""Samples while a run goes on: the engine on the model in training."""

from scratchlm.generation.engine import Engine
from scratchlm.generation.prompt import beginning
from scratchlm.generation.sampling import Sampling
from scratchlm.generation.sequence import Request
from scratchlm.model.transformer import Transformer
from scratchlm.tokenizer.tokenizer import Tokenizer


def sample_text(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: str,
    n_tokens: int,
    *,
    seed: int,
    temperature: float = 0.8,
) -> str:
    """`prompt` and up to `n_tokens` tokens more, beyond the context by the engine's window.

    A model in training is in training mode again afterwards.
    """
    was_training = model.training
    compute_dtype, model.compute_dtype = model.compute_dtype, None
    model.eval()
    try:
        sampling = Sampling(max_new_tokens=n_tokens, temperature=temperature, seed=seed)
        ids = tokenizer.encode(prompt) or beginning(tokenizer)
        request = Request(ids, sampling, window=True)
        tokens = Engine(model, tokenizer).stream(request)
        return prompt + "".join(token.text for token in tokens)
    finally:
        model.compute_dtype = compute_dtype
        model.train(was_training)
