"""Looking a model up at its endpoint before the first paid call."""

from __future__ import annotations

import contextlib
import re
from datetime import date
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from eft_eval.errors import ConfigError, nearest
from eft_eval.judging.judges.client import explain, make_blocking_client, mask
from eft_eval.judging.judges.heads import Redirected
from eft_eval.judging.settings import JudgeSettings
from eft_eval.secrets import without_credentials

if TYPE_CHECKING:
    import openai

__all__ = ["ADDRESS_HINT", "EndpointDown", "look_up"]

ADDRESS_HINT = "the address usually ends in /v1"

_TO_TLS = re.compile(r"http request .{0,20}https|plain http", re.IGNORECASE)
_ADVICE = (
    (
        re.compile("certificate", re.IGNORECASE),
        "its certificate is not trusted: SSL_CERT_FILE names a file of those that are",
    ),
    (
        re.compile("wrong.version.number|record.layer", re.IGNORECASE),
        "it speaks no TLS: its address begins with http://",
    ),
    (
        re.compile("proxy|407", re.IGNORECASE),
        "check HTTP_PROXY and HTTPS_PROXY; NO_PROXY names hosts that are asked directly",
    ),
)
_TIMEOUT_SECONDS = 20.0
_WARNING_DAYS = 90
_NAMES_SHOWN = 10


class EndpointDown(ConfigError):
    """Nobody answers at a judge's address."""


def look_up(settings: JudgeSettings, place: str, today: date) -> str | None:
    """Look a model up; costs nothing.

    An endpoint without model lookups is taken on trust, as is one that is merely busy.

    Args:
        settings: The judge.
        place: The endpoint, for people.
        today: The day to measure shutdown dates from.

    Returns:
        A warning if the model is to be shut down within 90 days, else None.

    Raises:
        ConfigError: The key is refused, the endpoint is down or no OpenAI-compatible one, or it
            lists its models and the judge is not among them.
    """
    import openai

    with make_blocking_client(settings, _TIMEOUT_SECONDS, retries=1) as client:
        try:
            found = client.models.retrieve(settings.model)
        except openai.NotFoundError:
            _check_listed(client, settings, place)
            return None
        except (openai.OpenAIError, ValueError, RecursionError) as error:
            _raise_if_certain(error, settings, place)
            return None
    if not isinstance(found, openai.types.Model):
        raise ConfigError(
            f"{place} does not answer like an OpenAI-compatible endpoint; {ADDRESS_HINT} "
            f"({settings.address_from})"
        )
    if not getattr(found, "id", None):  # some servers answer 200 to what they do not know
        with make_blocking_client(settings, _TIMEOUT_SECONDS, retries=1) as client:
            _check_listed(client, settings, place)
    shutdown = getattr(found, "shutdown_date", None)
    return _shutdown_warning(settings.model, shutdown, today)


def _check_listed(client: openai.OpenAI, settings: JudgeSettings, place: str) -> None:
    import openai

    try:
        listed = client.models.list().data
    except (openai.OpenAIError, ValueError, RecursionError) as error:
        _raise_if_certain(error, settings, place)
        _check_route(client, settings, place)
        return
    except AttributeError:
        return  # the list came as something other than JSON
    ids = [getattr(model, "id", None) for model in listed] if isinstance(listed, list) else []
    names = sorted(name for name in ids if isinstance(name, str))
    if not names:
        _check_route(client, settings, place)
    if not names or settings.model in names:
        return
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    raise ConfigError(
        f"{place} has no model {settings.model!r}{nearest(settings.model, names)}; "
        f"set EFT_JUDGE_MODEL to one of: {shown}"
    )


def _check_route(client: openai.OpenAI, settings: JudgeSettings, place: str) -> None:
    """Look whether the models are listed at another address of the same host: that is the one."""
    import openai

    own = settings.base_url or place
    if own.endswith("/v1"):
        return
    for address in dict.fromkeys((f"{own}/v1", urljoin(own, "/v1"))):
        if address == own:
            continue
        beside = client.with_options(base_url=address, max_retries=0)
        with contextlib.suppress(openai.OpenAIError, ValueError, RecursionError, AttributeError):
            if beside.models.list().data is not None:
                there = mask(without_credentials(address), settings)
                raise ConfigError(
                    f"{place} has no models, {there} has: set {settings.address_from} to that"
                )


def _raise_if_certain(error: Exception, settings: JudgeSettings, place: str) -> None:
    """Raise for a refused key and a silent endpoint; any other answer proves nothing."""
    import openai

    if isinstance(error, (openai.AuthenticationError, openai.PermissionDeniedError)):
        # A 403 may be about a scope or a region, which only the server's own words tell.
        detail = "" if error.status_code == 401 else f" ({explain(error, settings)})"
        raise ConfigError(
            f"key refused: {place} does not accept {settings.key_from}{detail}"
        ) from None
    if isinstance(error, openai.APIStatusError) and error.status_code == 407:
        raise ConfigError(
            f"no way to {place}: the proxy asks for a login ({explain(error, settings)}); "
            "HTTP_PROXY and HTTPS_PROXY take one as http://user:password@host:port"
        ) from None
    if isinstance(error, openai.BadRequestError) and _TO_TLS.search(explain(error, settings)):
        raise ConfigError(
            f"{place} speaks TLS alone ({explain(error, settings)}): its address begins with "
            f"https:// ({settings.address_from})"
        ) from None
    if isinstance(error.__cause__, Redirected):
        raise ConfigError(str(error.__cause__)) from None
    if isinstance(error, openai.APIConnectionError):
        said = explain(error, settings)
        raise EndpointDown(
            f"endpoint down: no answer from {place} ({said}); {_what_to_do(said, settings)}"
        ) from None


def _what_to_do(said: str, settings: JudgeSettings) -> str:
    for pattern, advice in _ADVICE:
        if pattern.search(said):
            return advice
    return f"check {settings.address_from} and the network"


def _shutdown_warning(model: str, shutdown: object, today: date) -> str | None:
    if not isinstance(shutdown, str):
        return None
    try:
        day = date.fromisoformat(shutdown[:10])
    except ValueError:
        return None
    days = (day - today).days
    if days > _WARNING_DAYS:
        return None
    when = f"will be shut down in {days} days" if days > 0 else "was due to be shut down"
    return (
        f"the judge {model} {when} ({day.isoformat()}); scores of different judges are not "
        "comparable, so plan to judge again with its successor"
    )
