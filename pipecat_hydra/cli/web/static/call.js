// One call: the microphone, the WebRTC connection, and the data channel with Pipecat's RTVI
// messages. It knows nothing of the page; whatever ends it, `ended` is called once.

const RTVI_VERSION = "2.2.0";
const CONNECT_LIMIT_MS = 15_000;
const GATHERING_LIMIT_MS = 2_000;
const SILENT_NETWORK_LIMIT_MS = 8_000;
const REFUSAL_LIMIT = 300;

export class Call {
  #listener;
  #peer = null;
  #channel = null;
  #microphone = null;
  #timer = null;
  #isLive = false;
  #isOver = false;

  // The listener has `asking()` when the user may be asked for the microphone,
  // `connecting(stream)` with what it gives, `heard(stream)` with the bot's voice, `live()`,
  // `unstable()` when nothing comes any more, `message(rtvi)`, and `ended(problem)`, where
  // the problem is a sentence, or null if this side hung up.
  constructor(listener) {
    this.#listener = listener;
  }

  async start() {
    try {
      this.#listener.asking();
      const microphone = await openMicrophone();
      if (this.#isOver) {
        stop(microphone);
        return;
      }
      this.#microphone = microphone;
      this.#listener.connecting(microphone);
      await this.#connect();
    } catch (error) {
      if (this.#isOver) return;
      if (!(error instanceof Problem)) console.error(error);
      this.#end(error instanceof Problem ? error.message : `The call failed: ${error.message}`);
    }
  }

  mute(isMuted) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) track.enabled = !isMuted;
  }

  hangUp() {
    this.#end(null);
  }

  async #connect() {
    this.#limit(CONNECT_LIMIT_MS, "No connection came about. A firewall or a VPN may block it.");
    const peer = (this.#peer = new RTCPeerConnection());
    peer.addEventListener("track", ({ track }) => {
      this.#listener.heard(new MediaStream([track]));
    });
    peer.addEventListener("connectionstatechange", () => this.#follow(peer.connectionState));
    const [track] = this.#microphone.getAudioTracks();
    track.addEventListener("ended", () => this.#end("The microphone is gone."));
    peer.addTrack(track, this.#microphone);
    this.#channel = peer.createDataChannel("rtvi");
    this.#channel.addEventListener("open", () => this.#introduce());
    this.#channel.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    this.#channel.addEventListener("close", () => this.#end("The server ended the call."));
    await peer.setLocalDescription();
    await gatherCandidates(peer);
    if (this.#isOver) return;
    if (!peer.localDescription.sdp.includes("a=candidate:")) {
      throw new Problem(
        "The browser found no network to call over. Connect to any; it need not be online.",
      );
    }
    const answer = await postOffer(peer.localDescription);
    if (this.#isOver) return;
    await peer.setRemoteDescription(answer);
  }

  #introduce() {
    const about = { library: "pipecat-hydra" };
    this.#send("client-ready", { version: RTVI_VERSION, about });
  }

  #send(type, data) {
    const id = crypto.randomUUID();
    this.#channel.send(JSON.stringify({ label: "rtvi-ai", type, id, data }));
  }

  #receive(message) {
    if (this.#isOver) return;
    if (message.type === "bot-ready") {
      this.#isLive = true;
      clearTimeout(this.#timer);
      this.#listener.live();
    } else if (message.type === "signalling" && message.message?.type === "peerLeft") {
      this.#end("The server ended the call.");
      return;
    }
    this.#listener.message(message);
  }

  #follow(state) {
    if (this.#isOver) return;
    if (state === "failed") {
      this.#end("The connection was lost.");
    } else if (state === "disconnected" && this.#isLive) {
      this.#limit(SILENT_NETWORK_LIMIT_MS, "The connection was lost.");
      this.#listener.unstable();
    } else if (state === "connected" && this.#isLive) {
      clearTimeout(this.#timer);
      this.#listener.live();
    }
  }

  #limit(milliseconds, problem) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#end(problem), milliseconds);
  }

  #end(problem) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#peer?.close();
    if (this.#microphone) stop(this.#microphone);
    this.#listener.ended(problem);
  }
}

// What went wrong, as a sentence for the user.
class Problem extends Error {}

async function openMicrophone() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem(
      "The browser gives this page no microphone, because its address is neither https nor " +
        `localhost. On the machine that serves it, open http://localhost:${location.port}.`,
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
  } catch (error) {
    throw new Problem(MICROPHONE_PROBLEMS[error.name] ?? `No microphone: ${error.message}.`);
  }
}

const MICROPHONE_PROBLEMS = {
  NotAllowedError:
    "The microphone is blocked. Allow it for this page, next to the address, and call again.",
  NotFoundError: "There is no microphone. Connect one and call again.",
  NotReadableError: "The microphone is in use by another program. Close that and call again.",
};

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}

// One offer with all candidates: on this machine they are all there within milliseconds.
async function gatherCandidates(peer) {
  if (peer.iceGatheringState === "complete") return;
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, GATHERING_LIMIT_MS);
    peer.addEventListener("icegatheringstatechange", () => {
      if (peer.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

async function postOffer({ sdp, type }) {
  let response;
  try {
    response = await fetch("api/offer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp, type }),
    });
  } catch {
    throw new Problem(
      "The server does not answer. Start pipecat-hydra web again, and then call again.",
    );
  }
  if (!response.ok) throw new Problem(await refusal(response));
  return response.json();
}

// What the server says about a request that it refuses, as a sentence.
async function refusal(response) {
  const text = (await response.text().catch(() => "")).trim();
  let reason = response.headers.get("Content-Type")?.startsWith("text/plain") ? text : "";
  try {
    const { detail } = JSON.parse(text);
    if (typeof detail === "string") reason = detail;
  } catch {
    // It is not JSON.
  }
  const status = `The server refused the call (HTTP ${response.status}).`;
  return reason ? `${status} ${reason.slice(0, REFUSAL_LIMIT)}` : status;
}
