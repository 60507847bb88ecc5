"""A plain aiohttp proxy: what a gateway costs that is written as aiohttp's documents suggest.

    python plain_proxy.py PORT TLS_PORT BACKEND_PORT CERTIFICATE KEY

Fair because it does less than any gateway: it looks at no token, counts nothing and logs nothing.
It runs on uvloop, with one session whose connections are kept.
"""

import asyncio
import ssl
import sys

import uvloop
from aiohttp import ClientSession, DummyCookieJar, web

PORT, TLS_PORT, BACKEND, CERTIFICATE, KEY = sys.argv[1:]
NOT_FORWARDED = {"connection", "content-length", "keep-alive", "transfer-encoding"}


async def main() -> None:
    """Serve both ports until killed."""
    async with ClientSession(cookie_jar=DummyCookieJar(), auto_decompress=False) as session:

        async def forward(request: web.BaseRequest) -> web.StreamResponse:
            headers = [(k, v) for k, v in request.headers.items() if k.lower() not in NOT_FORWARDED]
            data = request.content if request.body_exists else None
            url = f"http://127.0.0.1:{BACKEND}{request.path_qs}"
            async with session.request(request.method, url, headers=headers, data=data) as upstream:
                answer = web.StreamResponse(status=upstream.status)
                answer.headers.extend(
                    (k, v) for k, v in upstream.headers.items() if k.lower() not in NOT_FORWARDED
                )
                answer.content_length = upstream.content_length
                await answer.prepare(request)
                async for part in upstream.content.iter_any():
                    await answer.write(part)
                await answer.write_eof()
                return answer

        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE, KEY)
        runner = web.ServerRunner(web.Server(forward, access_log=None, keepalive_timeout=3600))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", int(PORT), backlog=4096).start()
        await web.TCPSite(runner, "127.0.0.1", int(TLS_PORT), ssl_context=context).start()
        await asyncio.Event().wait()


uvloop.run(main())
