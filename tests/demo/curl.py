"""As much of curl as the demo's commands use, for machines without it."""

import argparse
import base64
import ssl
import sys
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def main() -> None:
    """Do what curl does with these arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", action="store_true")
    parser.add_argument("-s", action="store_true")
    parser.add_argument("-i", action="store_true")
    parser.add_argument("-u")
    parser.add_argument("-d")
    parser.add_argument("-H", action="append", default=[])
    parser.add_argument("-o")
    parser.add_argument("-w", default="")
    parser.add_argument("url")
    given = parser.parse_args()
    headers = dict(header.split(": ", 1) for header in given.H)
    if given.u:
        headers["Authorization"] = "Basic " + base64.b64encode(given.u.encode()).decode()
    context = ssl.create_default_context()
    if given.k:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    request = Request(given.url, data=given.d and given.d.encode(), headers=headers)
    try:
        answer = urlopen(request, context=context)
    except HTTPError as error:
        answer = error
    with answer:
        text = answer.read().decode()
        if given.i:
            text = f"HTTP/1.1 {answer.status} {answer.reason}\r\n{answer.headers}{text}"
        if not given.o:
            sys.stdout.write(text)
        status = given.w.replace("%{http_code}", str(answer.status))
        sys.stdout.write(status.replace("\\n", "\n"))


if __name__ == "__main__":
    main()
