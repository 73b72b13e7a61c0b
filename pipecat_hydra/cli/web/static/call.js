// One call: the microphone, the WebRTC connection, and the data channel with Pipecat's RTVI
// messages. It knows nothing of the page; whatever ends it, `ended` is called once.

const RTVI_VERSION = "2.2.0";
const CONNECT_LIMIT_MS = 15_000;
const GATHERING_LIMIT_MS = 2_000;
const SILENT_NETWORK_LIMIT_MS = 8_000;
const REFUSAL_LIMIT = 300;
const LISTEN_EVERY_MS = 400;
const QUIET_LIMIT_MS = 1_500;
const ALIVE_LIMIT_MS = 2_000;

export class Call {
  #listener;
  #choice;
  #device;
  #peer = null;
  #channel = null;
  #microphone = null;
  #timer = null;
  #isLive = false;
  #isOver = false;

  // The listener has `asking()` when the user may be asked for the microphone,
  // `microphone(stream)` with what it gives, `connecting()`, `heard(stream)` with the bot's
  // voice, `live()`, `unstable()` when nothing comes any more, `message(rtvi)`, and
  // `ended(problem, isServerGone)`, where the problem is a sentence, or null if this side hung
  // up. `choice` is what the user has chosen of the service, and `device` the id of a
  // microphone; empty for the browser's choice.
  constructor(listener, choice, device) {
    this.#listener = listener;
    this.#choice = choice;
    this.#device = device;
  }

  async start() {
    try {
      this.#listener.asking();
      const microphone = await openMicrophone(this.#device);
      if (this.#isOver) {
        stop(microphone);
        return;
      }
      this.#microphone = microphone;
      this.#listener.microphone(microphone);
      this.#listener.connecting();
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

  // Go on with another microphone; the old one stays if that cannot be had.
  async useMicrophone(device, isMuted) {
    const microphone = await openMicrophone(device);
    const [track] = microphone.getAudioTracks();
    const sender = this.#peer?.getSenders().find((sender) => sender.track);
    if (this.#isOver || !sender) {
      stop(microphone);
      return;
    }
    await sender.replaceTrack(track);
    stop(this.#microphone);
    this.#microphone = microphone;
    this.#watch(track);
    this.mute(isMuted);
    this.#listener.microphone(microphone);
  }

  // Have the bot answer what the user has typed.
  say(text) {
    this.#send("client-message", { t: "say", d: { text } });
  }

  disturb(what) {
    this.#send("client-message", { t: "disturb", d: { what } });
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
    this.#watch(track);
    peer.addTrack(track, this.#microphone);
    this.#channel = peer.createDataChannel("rtvi");
    this.#channel.addEventListener("open", () => this.#introduce());
    this.#channel.addEventListener("message", ({ data }) => this.#receive(JSON.parse(data)));
    this.#channel.addEventListener("close", () => this.#end("The server ended the call.", true));
    await peer.setLocalDescription();
    await gatherCandidates(peer);
    if (this.#isOver) return;
    if (!peer.localDescription.sdp.includes("a=candidate:")) {
      throw new Problem(
        "The browser found no network to call over. Connect to any; it need not be online.",
      );
    }
    const answer = await postOffer(peer.localDescription, this.#choice);
    if (this.#isOver) return;
    await peer.setRemoteDescription(answer);
  }

  #watch(track) {
    track.addEventListener("ended", () => this.#end("The microphone is gone."));
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
      this.#watchServer();
    } else if (message.type === "signalling" && message.message?.type === "peerLeft") {
      this.#end("The server ended the call.", true);
      return;
    }
    this.#listener.message(message);
  }

  // A server that was killed says nothing, and WebRTC takes some ten seconds to notice. But a
  // server sends all the time, silence too, and the port of one that is gone is closed. One that
  // is merely slow is left to WebRTC.
  async #watchServer() {
    for (let received = 0, heardAt = performance.now(); !this.#isOver; ) {
      await wait(LISTEN_EVERY_MS);
      const now = await packetsReceived(this.#peer);
      if (now !== received) heardAt = performance.now();
      received = now;
      if (performance.now() - heardAt < QUIET_LIMIT_MS || this.#isOver) continue;
      if (await isGone()) {
        const problem = "The server is gone. Start pipecat-hydra web again, and then call again.";
        this.#end(problem, true);
      }
    }
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

  #end(problem, isServerGone = false) {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#peer?.close();
    if (this.#microphone) stop(this.#microphone);
    this.#listener.ended(problem, isServerGone);
  }
}

// What went wrong, as a sentence for the user.
class Problem extends Error {}

function wait(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

async function packetsReceived(peer) {
  let packets = 0;
  for (const report of (await peer.getStats()).values()) {
    if (report.type === "inbound-rtp") packets += report.packetsReceived;
  }
  return packets;
}

// Whether nothing listens there any more, or a proxy says so.
async function isGone() {
  try {
    const signal = AbortSignal.timeout(ALIVE_LIMIT_MS);
    const response = await fetch("api/alive", { cache: "no-store", signal });
    return response.status >= 500;
  } catch (error) {
    return error.name !== "TimeoutError";
  }
}

async function openMicrophone(device) {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Problem(
      "The browser gives this page no microphone, because its address is neither https nor " +
        `localhost. On the machine that serves it, open http://localhost:${location.port}.`,
    );
  }
  try {
    return await navigator.mediaDevices.getUserMedia({
      audio: {
        echoCancellation: true,
        noiseSuppression: true,
        autoGainControl: true,
        ...(device && { deviceId: { exact: device } }),
      },
    });
  } catch (error) {
    throw new Problem(MICROPHONE_PROBLEMS[error.name] ?? `No microphone: ${error.message}.`);
  }
}

const MICROPHONE_PROBLEMS = {
  NotAllowedError:
    "The microphone is blocked. Allow it for this page, next to the address, and call again.",
  NotFoundError: "There is no microphone. Connect one and call again.",
  OverconstrainedError: "The microphone that was chosen is gone. Choose another and call again.",
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

async function postOffer({ sdp, type }, choice) {
  let response;
  try {
    response = await fetch("api/offer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sdp, type, request_data: choice }),
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
