"""Drills nginx with nchan and a plain WebSocket client.

    python3 examples/drill-clients/against_nchan.py f1 f5 --quick

What it does not know goes to `holdfast drill`. Needs nginx with the module nchan (Debian: libnginx-mod-nchan) and the
package `websockets`. nchan has its defaults, which keep messages for an hour, and pings every 15 s.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys
import tempfile

from servers import HOST, free_port, holdfast, running, until_it_listens

HERE = pathlib.Path(__file__).resolve().parent

CONFIGURATION = """
{modules}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    server {{
        listen {host}:{port};
        location ~ /sub/(.+)$ {{ nchan_subscriber; nchan_channel_id $1; nchan_websocket_ping_interval 15; }}
        location ~ /pub/(.+)$ {{ nchan_publisher; nchan_channel_id $1; }}
    }}
}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description="Drills nginx with nchan and a plain WebSocket client.")
    parser.add_argument("--nginx", default="nginx", help="the program of nginx")
    parser.add_argument("--holdfast", default="holdfast", help="the program of Holdfast")
    parser.add_argument(
        "--module", action="append", help="nginx's modules", default=None, metavar="ngx_nchan_module.so"
    )
    options, drills = parser.parse_known_args()
    modules = options.module or ["/usr/lib/nginx/modules/ngx_nchan_module.so"]
    with tempfile.TemporaryDirectory(prefix="holdfast-drill-") as folder:
        port = free_port()
        file = pathlib.Path(folder, "nginx.conf")
        lines = "\n".join(f"load_module {module};" for module in modules)
        file.write_text(CONFIGURATION.format(modules=lines, folder=folder, host=HOST, port=port))
        nginx = [options.nginx, "-c", str(file), "-p", folder, "-e", f"{folder}/error.log"]
        with running(nginx, folder), until_it_listens(port, folder):
            publish = f"{sys.executable} {HERE / 'publish_nchan.py'} --port {port}"
            client = f"{sys.executable} {HERE / 'plain_websocket.py'} --dialect nchan"
            return holdfast(options.holdfast, f"ws://{HOST}:{port}/sub", client, publish, drills)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
