// The graph's frame cannot call Python; this invisible element of the page listens to it.
export default function ({ data, setTriggerValue }) {
  const frame = () => document.querySelector(".st-key-head-graph iframe");
  const tell = () => frame()?.contentWindow?.postMessage({ cahpChosen: data.chosen, cahpGraph: data.graph }, "*");
  const hear = (event) => {
    if (!event.data || event.source !== frame()?.contentWindow) return;
    if (event.data.cahpReady) tell();
    const head = event.data.cahpHead;
    if (Number.isInteger(head) && head >= 0 && head < data.heads) setTriggerValue("head", head);
  };
  addEventListener("message", hear);
  tell();
  return () => removeEventListener("message", hear);
}
