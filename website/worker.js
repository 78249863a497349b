// Search from a folder (file:) without a web server: browsers refuse workers there, so the search
// runs in a hidden frame with the interface of a worker. Pages of a web server keep their workers.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.waiting = [];
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.srcdoc = "<!doctype html><body></body>";
      frame.addEventListener("load", () => this.start(frame.contentWindow, url), { once: true });
      (document.body || document.documentElement).append(frame);
    }

    start(inner, url) {
      inner.postMessage = (data) => {
        const event = new MessageEvent("message", { data });
        this.dispatchEvent(event);
        if (this.onmessage) this.onmessage(event);
      };
      const script = inner.document.createElement("script");
      script.src = url;
      script.addEventListener("load", () => {
        this.send = (data) => inner.dispatchEvent(new inner.MessageEvent("message", { data }));
        this.waiting.splice(0).forEach(this.send);
      });
      inner.document.body.append(script);
    }

    postMessage(data) {
      if (this.send) this.send(data);
      else this.waiting.push(data);
    }

    terminate() {}
  };
}
