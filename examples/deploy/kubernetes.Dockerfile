# examples/voice_agent.py for telephones behind a load balancer; see kubernetes.yaml and server.py.
# Built from the root of the repository:
#
#     docker build -f examples/deploy/kubernetes.Dockerfile -t voice-agent .
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /opt/pipecat-hydra/
COPY pipecat_hydra /opt/pipecat-hydra/pipecat_hydra
RUN pip install --no-cache-dir "/opt/pipecat-hydra[redis]" "pipecat-ai[runner,websocket]>=1.14,<2"

# Without SMALLEST_API_KEY it does not start.
ENV HYDRA_KEY_REQUIRED=1

# By number, because Kubernetes cannot tell from a name that it is not root.
RUN useradd --create-home --uid 10001 bot
USER 10001
WORKDIR /home/bot
COPY examples/voice_agent.py bot.py
COPY examples/deploy/server.py server.py

EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/health')"]

# The form with brackets: SIGTERM reaches Python, and no shell.
ENTRYPOINT ["python", "server.py"]
