# examples/voice_agent.py on a machine of your own; see compose.yaml.
FROM python:3.12-slim

COPY pyproject.toml README.md LICENSE /opt/pipecat-hydra/
COPY pipecat_hydra /opt/pipecat-hydra/pipecat_hydra
RUN pip install --no-cache-dir /opt/pipecat-hydra "pipecat-ai[runner,webrtc,websocket]>=1.14,<2"

# Without SMALLEST_API_KEY it does not start.
ENV HYDRA_KEY_REQUIRED=1

RUN useradd --create-home --uid 10001 bot
USER 10001
WORKDIR /home/bot
COPY examples/voice_agent.py bot.py

EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/status')"]

ENTRYPOINT ["python", "bot.py", "--host", "0.0.0.0"]
