"""Keys of OpenAI's and vLLM's chat requests that change nothing here, and those that are refused.

A key that would change the answer is refused rather than dropped, with the reason, unless its value
asks for nothing. Keys that are in none of these tables and not in ``ChatRequest`` are unknown.
"""

from typing import Any

# Read and not used: they are about accounts, caches and bills, none of which is here.
IGNORED = frozenset(
    {
        "user", "metadata", "store", "safety_identifier", "service_tier", "prompt_cache_key",
        "prompt_cache_options", "prompt_cache_retention", "parallel_tool_calls", "request_id",
        "priority", "cache_salt",
    }
)  # fmt: skip

_TOOLS = "the model was not trained on tools and its template has no place for them"
_GREEDY_OR_TOP_P = "answers are drawn by temperature and top_p alone"
_TEMPLATE = "the chat template is the model's own"
_TOKENS = "answers are text, and prompts are chats"
_PICTURES = "photographs go in as image_url parts, read in one way"
_FORMAT = "ask for JSON with response_format"

# Key: the value that asks for nothing besides null, and why any other is refused.
REFUSED: dict[str, tuple[Any, str]] = {
    # OpenAI's
    "audio": (None, "the model neither hears nor speaks"),
    "modalities": (["text"], "the model answers in text"),
    "functions": ([], _TOOLS),
    "function_call": ("none", _TOOLS),
    "tools": ([], _TOOLS),
    "tool_choice": ("none", _TOOLS),
    "moderation": (None, "there is no moderation here"),
    "prediction": (None, "answers are not made from a draft"),
    "reasoning_effort": ("none", "the model does not reason before it answers"),
    "verbosity": ("medium", "say in the prompt how long the answer should be"),
    "web_search_options": (None, "the model has no access to the web"),
    # vLLM's
    "top_k": (-1, _GREEDY_OR_TOP_P),
    "min_p": (0, _GREEDY_OR_TOP_P),
    "repetition_penalty": (1, "use frequency_penalty or presence_penalty"),
    "length_penalty": (1, "there is no beam search"),
    "use_beam_search": (False, "there is no beam search"),
    "min_tokens": (0, "an answer ends where the model ends it"),
    "ignore_eos": (False, "an answer ends where the model ends it"),
    "stop_token_ids": ([], "end an answer with stop, which takes texts"),
    "include_stop_str_in_output": (False, "a stop text is left out of the answer"),
    "bad_words": ([], "use logit_bias"),
    "allowed_token_ids": (None, "use logit_bias"),
    "skip_special_tokens": (True, "answers never hold the template's marks"),
    "spaces_between_special_tokens": (True, "answers never hold the template's marks"),
    "truncate_prompt_tokens": (None, "a prompt that is too long is refused, not cut"),
    "truncation_side": (None, "a prompt that is too long is refused, not cut"),
    "prompt_logprobs": (None, "log-probabilities are of the answer's tokens"),
    "prompt_embeds": (None, "soft tokens are made here, from photographs and edits"),
    "return_tokens_as_token_ids": (False, _TOKENS),
    "return_token_ids": (False, _TOKENS),
    "return_prompt_text": (False, _TOKENS),
    "echo": (False, _TEMPLATE),
    "add_generation_prompt": (True, _TEMPLATE),
    "continue_final_message": (False, _TEMPLATE),
    "add_special_tokens": (False, _TEMPLATE),
    "documents": ([], _TEMPLATE),
    "chat_template": (None, _TEMPLATE),
    "chat_template_kwargs": ({}, _TEMPLATE),
    "media_io_kwargs": ({}, _PICTURES),
    "mm_processor_kwargs": ({}, _PICTURES),
    "structured_outputs": (None, _FORMAT),
    "guided_json": (None, _FORMAT),
    "guided_regex": (None, _FORMAT),
    "guided_choice": (None, _FORMAT),
    "guided_grammar": (None, _FORMAT),
    "include_reasoning": (True, "the model does not reason before it answers"),
    "thinking_token_budget": (None, "the model does not reason before it answers"),
    "logits_processors": (None, "no code of a request is run"),
    "kv_transfer_params": (None, "engines are this server's own concern"),
    "vllm_xargs": ({}, "engines are this server's own concern"),
    "repetition_detection": (None, "use frequency_penalty or presence_penalty"),
}
