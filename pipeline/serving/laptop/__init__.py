"""A server for one's own machine that answers TF Serving's REST paths: a convenience, not TF Serving.

The seams: `limits` (what is refused, before it costs memory), `codec` (JSON and arrays), `batching`
(requests that wait together run together), `loading` and `models` (versions that come and go),
`app` (paths), `page` (what a browser shows), `server` (sockets, connections, signals).
"""
