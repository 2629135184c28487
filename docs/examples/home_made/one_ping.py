"""One ping for all clients, and a client that parses the data of each event as JSON."""

import json

STREAM = 'data: {"answer": 41}\n\n' + "event: ping\ndata: \n\n" + 'data: {"answer": 42}\n\n'


def client(stream):
    for line in stream.splitlines():
        if line.startswith("data: "):  # what most hand-written clients do
            yield json.loads(line.removeprefix("data: "))


def main():
    try:
        print(list(client(STREAM)))
    except json.JSONDecodeError as error:
        print("JSONDecodeError:", error)


if __name__ == "__main__":
    main()
