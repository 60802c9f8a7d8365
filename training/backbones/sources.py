"""Where weights to start from come from, and what stands for their content in a key. Light until a name needs a hub.

Forms: a file (safetensors, or a torch state dict), the folder of a checkpoint, `timm:NAME.TAG` and
`open_clip:NAME/TAG`. Names are downloaded once into the library's own cache, where the machine has a network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

BACKBONE = "backbone.safetensors"
HEADS = "heads.safetensors"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".tar", ".ckpt")


def weights_path(source: str) -> Path:
    """The file, or the checkpoint's folder, that `source` means; a name's file is fetched where it isn't cached.

    Raises ValueError with what to do where there is none.
    """
    for prefix, fetch in (("timm:", _timm_file), ("open_clip:", _open_clip_file)):
        if source.startswith(prefix):
            return _fetched(fetch, source, source.removeprefix(prefix))
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / BACKBONE).is_file():
            raise ValueError(f"the folder '{path}' holds no {BACKBONE}: give a checkpoint's folder or a weights file")
        return path
    if not path.is_file():
        raise ValueError(
            f"there is no file '{path}': give a file of weights ({', '.join(_SUFFIXES)}), a checkpoint's folder, "
            "run:RUN, timm:NAME.TAG or open_clip:NAME/TAG"
        )
    return path


def weights_digest(source: str) -> str:
    """SHA-256 of the content that `source` means. Raises ValueError like `weights_path`."""
    path = weights_path(source)
    files = [path] if path.is_file() else [path / name for name in (BACKBONE, HEADS) if (path / name).is_file()]
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _fetched(fetch: Callable[[str], Path], source: str, name: str) -> Path:
    try:
        return fetch(name)
    except ValueError:
        raise
    except Exception as error:  # hubs raise errors of many libraries: all of them mean that there is no file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(
            f"the weights '{source}' are neither in this machine's cache nor to be had from here ({reason}): fetch "
            "them where there is a network, and give the file's path"
        ) from error


def _timm_file(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from timm.models import get_pretrained_cfg
    from torch.hub import download_url_to_file, get_dir

    try:
        config = get_pretrained_cfg(name)
    except RuntimeError:  # an unknown tag of a known architecture
        config = None
    if config is None or not config.has_weights:
        raise ValueError(f"timm knows no weights '{name}': `timm.list_pretrained()` lists names with their tags")
    if config.hf_hub_id:
        repository, _, revision = config.hf_hub_id.partition("@")
        file = config.hf_hub_filename or "model.safetensors"
        return Path(hf_hub_download(repository, filename=file, revision=revision or None))
    url = str(config.url)
    path = Path(get_dir()) / "checkpoints" / Path(url).name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), progress=False)
    return path


def _open_clip_file(name: str) -> Path:
    from open_clip import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model

    model, _, tag = name.rpartition("/")
    config = get_pretrained_cfg(model, tag) if model else None
    if not config:
        tags = list_pretrained_tags_by_model(model or name)
        raise ValueError(
            f"open_clip knows no weights '{name}'; for {model or name} it has: {', '.join(tags) or 'none'}"
        )
    return Path(download_pretrained(config))
