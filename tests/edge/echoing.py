"""A control plane that says of each request what it took it for; run by the same server as the real one."""

from flask import Flask, Response, request

app = Flask(__name__)
EVERY = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


app.url_map.merge_slashes = False


@app.route("/<path:rest>", methods=EVERY, provide_automatic_options=False)
def echo(rest: str = "") -> Response:
    """Answer as `tests.edge.plane.echo` does."""
    query = sorted(request.args.to_dict(flat=False).items())
    say = request.headers.get("X-Say", "")
    target = request.environ["RAW_URI"].split("?")[0]
    del rest
    said = f"{request.method} {target} {query} {say} ".encode("utf-8", "replace")
    return Response(said + request.get_data(), content_type="text/plain")
