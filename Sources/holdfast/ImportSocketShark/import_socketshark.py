"""Reads SocketShark's Python configuration and prints Holdfast's YAML.

`holdfast import-socketshark` gives this text to `python3 - CONFIG SECONDS`. YAML goes to standard output, everything
else to standard error. Standard library only. No f-strings, so that an old Python gets as far as saying that it is too old.
"""
import sys

if sys.version_info < (3, 7):
    sys.stderr.write("Python 3.7 or newer is needed, but this is %d.%d. Name another with --python.\n" % sys.version_info[:2])
    sys.exit(1)

import difflib
import importlib
import importlib.machinery
import importlib.util
import math
import os
import re
import signal
import tempfile
import traceback

KNOWN = ["BACKEND", "LOG", "METRICS", "WS_HOST", "WS_PORT", "WS_SSL", "WS_PING", "HTTP", "REDIS", "REDIS_ALT",
         "AUTHENTICATION", "SERVICES"]
# They would overwrite the envelope of replies and messages.
RESERVED = ["event", "status", "error", "data", "subscription", "received_at", "sent_at", "published_at", "queue_size"]
# What these say to the new client belongs to its protocol.
NATIVE = ["id", "since", "code", "limit", "actual", "position", "recovered", "offset", "after"]
LEVELS = {"DEBUG": "debug", "INFO": "info", "WARN": "warning", "WARNING": "warning", "ERROR": "error",
          "CRITICAL": "critical", "FATAL": "critical", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
# Callbacks without which SocketShark refuses a subscribe. Where one cannot be carried over, neither is its service:
# Holdfast would let everybody in.
GATES = ["authorizer", "before_subscribe"]
CALLBACKS = ["on_authorization_change", "before_subscribe", "on_subscribe", "on_message", "before_unsubscribe",
             "on_unsubscribe"]


class Unusable(Exception):
    """A value that cannot be carried over; the text says why."""


# Telling --------------------------------------------------------------------------------------------------------------


def scrub(text):
    """Without the passwords of URLs."""
    return re.sub(r"://[^\s'\"]*@", "://*****@", text)


def tell(text):
    sys.stderr.write(scrub(text) + "\n")
    sys.stderr.flush()


def note(where, text):
    tell("note: %s: %s" % (where, text))


def leave(code):
    """Without waiting for threads that the module may have started, and without what it does at exit."""
    sys.stderr.flush()
    os._exit(code)


def fail(text):
    tell(text)
    leave(1)


# Running the module ---------------------------------------------------------------------------------------------------


def is_ours(filename):
    return filename == "<stdin>" or filename.startswith("<frozen importlib") or "/importlib/" in filename


def place(frames):
    """File, line and text of the innermost line that is not ours, preferring those outside of Python's own library."""
    frames = [frame for frame in frames if not is_ours(frame.filename)]
    library = os.path.dirname(os.__file__) + os.sep
    own = [frame for frame in frames if not frame.filename.startswith(library) and not frame.filename.startswith("<")]
    frames = own or frames
    if not frames:
        return None
    last = frames[-1]
    return "%s:%s%s" % (last.filename, last.lineno, ": " + last.line.strip() if last.line else "")


def run_module(name, seconds):
    def too_long(_, frame):
        where = place(traceback.extract_stack(frame))
        fail("%s did not end within %g s%s\nSocketShark's configuration is a module that only sets names: move what "
             "waits or connects out of it, or give it more time with --timeout."
             % (name, seconds, "; it was at\n  " + where if where else "."))

    signal.signal(signal.SIGALRM, too_long)
    # The threads of the process that started us may block it, and we inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds)
    sys.dont_write_bytecode = True
    sys.argv = [name]
    sys.path[:] = [os.getcwd()] + [path for path in sys.path if path not in ("", os.getcwd())]
    try:
        return import_file(name) if looks_like_a_file(name) else import_name(name)
    except SystemExit as error:
        where = place(traceback.extract_tb(error.__traceback__))
        fail("%s calls sys.exit(%s)%s\nMake it a module that only sets names."
             % (name, "" if error.code is None else repr(error.code), " at\n  " + where if where else "."))
    except SyntaxError as error:
        fail("%s cannot be read as Python:\n  %s:%s: %s\n%s: %s"
             % (name, error.filename, error.lineno, (error.text or "").strip(), type(error).__name__, error.msg))
    except BaseException as error:
        where = place(traceback.extract_tb(error.__traceback__))
        last = traceback.format_exception_only(type(error), error)[-1].strip()
        hint = ""
        if isinstance(error, ImportError):
            hint = ("\nGive the dotted name that you give to `socketshark -c`, and run this where you run SocketShark."
                    if "relative import" in str(error) else
                    "\nRun this where you run SocketShark, with its Python: --python PATH/TO/VENV/bin/python")
        fail("%s does not run:\n%s%s%s" % (name, "  " + where + "\n" if where else "", last, hint))


def looks_like_a_file(name):
    return name.endswith(".py") or os.sep in name or os.path.isfile(name)


def import_file(name):
    if not os.path.isfile(name):
        fail("%s: there is no such file." % name)
    path = os.path.abspath(name)
    sys.path.insert(1, os.path.dirname(path))
    stem = os.path.splitext(os.path.basename(path))[0]
    # A name that no other module has, so that nothing is hidden by it.
    loader = importlib.machinery.SourceFileLoader(stem if stem not in sys.modules else "socketshark_config", path)
    spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[loader.name] = module
    spec.loader.exec_module(module)
    return module


def import_name(name):
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            fail("%s: there is neither a file nor a module of this name, seen from %s." % (name, os.getcwd()))
        raise


# Values ---------------------------------------------------------------------------------------------------------------


def a_text(value):
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        raise Unusable("must be text, but is %s" % kind(value))
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise Unusable("is text that is not Unicode")
    return str(value)


def a_number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Unusable("must be a number, but is %s" % kind(value))
    if not math.isfinite(value):
        raise Unusable("must be a finite number")
    return value


def an_integer(value):
    """A number, also as text, as SocketShark's own WS_PORT is."""
    if isinstance(value, str) and re.match(r"[0-9]{1,9}$", value.strip()):
        return int(value)
    if isinstance(value, float) and value == value // 1:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unusable("must be a whole number, but is %s" % kind(value))
    return value


def a_period(value):
    """None, 0 and False switch it off."""
    return a_number(value) if value else 0


def a_truth(value):
    return bool(value)


def a_url(value):
    if value is None or value == "":
        raise Unusable("is %s, where SocketShark fails at each call" % ("None" if value is None else "empty"))
    return a_text(value)


def some_names(value):
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    if not isinstance(value, (list, tuple)):
        raise Unusable("must be a list of names, but is %s" % kind(value))
    return [a_text(name) for name in value]


def kind(value):
    if value is None:
        return "None"
    if callable(value):
        return "a function or class, which a data file cannot hold"
    return "of type %s" % type(value).__name__


# Reading what SocketShark reads ---------------------------------------------------------------------------------------


def is_dict(where, value):
    if isinstance(value, dict):
        return True
    note(where, "must be a dict, but is %s; left out." % kind(value))
    return False


def take(source, where, key, read, result, name=None):
    """Reads one key into `result`, or says why not. Answers whether there was something that could not be used."""
    if key not in source:
        return False
    try:
        result[name or key] = read(source[key])
        return False
    except Unusable as error:
        note("%s.%s" % (where, key), "%s; left out, so %s."
             % (error, "no call is made" if read is a_url else "the default holds"))
        return True


def ignored(source, where, known):
    for key in source:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, 1)
        note("%s.%s" % (where, key), "SocketShark ignores it, so it is left out. %s"
             % ("Did you mean %s?" % near[0] if near else "Nothing to do."))


def read_log(log, result):
    if "level" in log:
        level = log["level"]
        level = level.upper() if isinstance(level, str) else level
        if isinstance(level, (str, int)) and level in LEVELS:
            result["log"] = {"level": LEVELS[level]}
        elif level is None:
            note("LOG.level", "None leaves logging alone, which Holdfast cannot; it logs from info on. Write log.level: error "
                 "for less.")
        else:
            note("LOG.level", "no level that Holdfast has; left out, so it logs from info on.")
    for key in ("setup_structlog", "format", "logger_name", "trace_logger_prefix"):
        if key in log:
            note("LOG." + key, "belongs to Python's logging and has no counterpart; nothing to do.")
    if "trace_level" in log:
        note("LOG.trace_level", "has no counterpart; write log.level: trace to see as much.")
    ignored(log, "LOG", ["level", "setup_structlog", "format", "logger_name", "trace_logger_prefix", "trace_level"])


def read_ping(ping, result):
    section = result.setdefault("ws_ping", {})
    take(ping, "WS_PING", "interval", a_period, section)
    if "timeout" in ping and not ping["timeout"]:
        note("WS_PING.timeout", "Holdfast always has a limit; left out, so it is 15 s.")
    else:
        take(ping, "WS_PING", "timeout", a_number, section)
    ignored(ping, "WS_PING", ["interval", "timeout"])


def read_http(http, result):
    section = result.setdefault("http", {})
    for key, read in (("timeout", a_number), ("tries", an_integer), ("wait", a_number), ("ssl_cafile", a_text),
                      ("rate_limit_reset_header_name", a_text), ("rate_limit_reset_header_names", some_names)):
        if not (key == "ssl_cafile" and not http.get(key)):
            take(http, "HTTP", key, read, section)
    ignored(http, "HTTP", ["timeout", "tries", "wait", "ssl_cafile", "rate_limit_reset_header_name",
                           "rate_limit_reset_header_names"])


def read_redis(where, redis):
    section = {}
    for key, read in (("host", a_text), ("port", an_integer), ("db", an_integer), ("channel_prefix", a_text),
                      ("ping_interval", a_period), ("ping_timeout", a_number)):
        if not (key == "ping_timeout" and not redis.get(key)):
            take(redis, where, key, read, section)
    if "ping_timeout" in redis and not redis["ping_timeout"]:
        section["ping_interval"] = 0  # SocketShark pings only where both are set.
    for key in ("username", "password", "socket", "tls"):
        if key in redis:
            note("%s.%s" % (where, key), "SocketShark ignores it, Holdfast would use it; left out. Write %s.%s yourself if "
                 "Redis asks for it." % (where.lower(), key))
    ignored(redis, where, ["host", "port", "db", "channel_prefix", "ping_interval", "ping_timeout", "username", "password",
                           "socket", "tls"])
    return section


def read_metrics(metrics, result):
    for provider, settings in metrics.items():
        if provider == "prometheus" and isinstance(settings, dict):
            section = {"host": "0.0.0.0"}  # All interfaces, as in SocketShark.
            if settings.get("host"):
                take(settings, "METRICS.prometheus", "host", a_text, section)
            take(settings, "METRICS.prometheus", "port", an_integer, section)
            ignored(settings, "METRICS.prometheus", ["host", "port"])
            if "port" in section:
                result.setdefault("metrics", {})["prometheus"] = section
            else:
                note("METRICS.prometheus", "has no port; left out. /metrics on the gateway's own port is always there.")
        elif provider == "log":
            result.setdefault("metrics", {})["log"] = {}
            note("METRICS.log", "logs only how many sessions there are, at log.level: debug. All else is at /metrics.")
        else:
            note("METRICS.%s" % provider, "nothing that SocketShark or Holdfast knows; left out.")


def read_authentication(methods, result):
    for method, settings in methods.items():
        where = "AUTHENTICATION.%s" % method
        if method != "ticket":
            note(where, "SocketShark knows only \"ticket\", and so does Holdfast; left out.")
        elif is_dict(where, settings):
            section = {}
            take(settings, where, "validation_url", a_url, section)
            take(settings, where, "auth_fields", some_names, section)
            ignored(settings, where, ["validation_url", "auth_fields"])
            if "validation_url" not in section or "auth_fields" not in section:
                note(where, "needs validation_url and auth_fields; left out, so nobody can authenticate.")
                continue
            if not section["auth_fields"]:
                note(where + ".auth_fields", "is empty, so that nobody can be authenticated, here as in SocketShark: a good ticket "
                     "is answered with ok, and changes nothing. Name what identifies a client.")
            result["authentication"] = {"ticket": section}


def read_service(name, service):
    """The service's section, or None if it cannot be carried over."""
    where = "SERVICES.%s" % name
    section = {}
    is_open = False
    readers = [("require_authentication", a_truth), ("authorizer", a_url), ("authorizer_fields", some_names),
               ("authorization_renewal_period", a_number), ("authorization_renewal_jitter", a_number),
               ("on_authorization_change", a_url), ("extra_fields", some_names), ("filter_fields", some_names)]
    readers += [(key, a_url) for key in CALLBACKS[1:]]
    readers += [("heartbeat_period", a_number), ("on_heartbeat", a_url)]
    for key, read in readers:
        is_open = take(service, where, key, read, section) and key in GATES or is_open
    ignored(service, where, [key for key, _ in readers])
    if "authorization_renewal_period" in service and "authorization_renewal_period" not in section:
        note(where, "without authorization_renewal_period a permission is never looked at again.")
    if is_open:
        note(where, "SocketShark lets nobody subscribe here, Holdfast would let everybody; the service is left out. Write "
             "its callback, or remove the key from the module.")
        return None
    for field in section.get("extra_fields", []):
        if field in RESERVED:
            note(where + ".extra_fields", "\"%s\" is left out, since it would overwrite a member of the protocol. Rename it in "
                 "clients and callbacks.%s" % (field, " It is also a filter field: until then it is compared with what "
                                               "authentication gave." if field in section.get("filter_fields", []) else ""))
        elif field in NATIVE:
            note(where + ".extra_fields", "\"%s\" is for SocketShark's clients only: the new client has a use of its own for it. "
                 "Nothing to do until clients change." % field)
    if "extra_fields" in section:
        section["extra_fields"] = [field for field in section["extra_fields"] if field not in RESERVED]
    return section


def read_services(services, result):
    sections = result.setdefault("services", {})
    for name, service in services.items():
        where = "SERVICES.%s" % (name,)
        if not isinstance(name, str) or not name or "." in name:
            note(where, "no subscription can ever name this service: a name is text without a dot; left out.")
        elif is_dict(where, service):
            section = read_service(name, service)
            if section is not None:
                sections[name] = section


def read_all(module):
    """Holdfast's tree of what the module sets."""
    given = {key: getattr(module, key) for key in KNOWN if hasattr(module, key)}
    for name in sorted(dir(module)):
        if name.isupper() and not name.startswith("_") and name not in KNOWN:
            near = difflib.get_close_matches(name, KNOWN, 1, 0.75)
            note(name, "SocketShark ignores this name, so it is left out. %s"
                 % ("Did you mean %s?" % near[0] if near else "Nothing to do if it is one of your own."))
    if not given:
        fail("The module sets none of SocketShark's names (%s): is it the right one?" % ", ".join(KNOWN))

    result = {}
    for key, read in (("WS_HOST", a_text), ("WS_PORT", an_integer)):
        if key in given:
            try:
                result[key.lower()] = read(given[key])
            except Unusable as error:
                note(key, "%s; left out, so the default holds." % error)
    if "WS_SSL" in given and given["WS_SSL"] and is_dict("WS_SSL", given["WS_SSL"]):
        section = result.setdefault("ws_ssl", {})
        for key in ("cert", "key"):
            if key not in given["WS_SSL"]:
                note("WS_SSL." + key, "is missing, without which SocketShark does not start.")
            take(given["WS_SSL"], "WS_SSL", key, a_text, section)
        ignored(given["WS_SSL"], "WS_SSL", ["cert", "key"])
    for key, read in (("WS_PING", read_ping), ("LOG", read_log), ("HTTP", read_http)):
        if key in given and is_dict(key, given[key]):
            read(given[key], result)
    # Without the key Holdfast has no Redis at all, so it stands here even where the module says nothing.
    redis = {"host": "localhost", "port": 6379}
    if "REDIS" in given and is_dict("REDIS", given["REDIS"]):
        redis.update(read_redis("REDIS", given["REDIS"]))
    result["redis"] = redis
    if given.get("REDIS_ALT") is not None and is_dict("REDIS_ALT", given["REDIS_ALT"]):
        alternative = read_redis("REDIS_ALT", given["REDIS_ALT"])
        if alternative:
            result["redis_alt"] = alternative
    for key, read in (("AUTHENTICATION", read_authentication), ("METRICS", read_metrics), ("SERVICES", read_services)):
        if key in given and is_dict(key, given[key]):
            read(given[key], result)
    if "BACKEND" in given:
        note("BACKEND", "is not needed: there is one. Nothing to do.")
    return result


# Writing YAML ---------------------------------------------------------------------------------------------------------

COMMENTS = {
    "ws_ping": "Seconds; an interval of 0 sends no pings.",
    "http": "How services are called.",
    "redis": "Where services publish.",
    "redis_alt": "A second Redis; messages of both are delivered.",
    "metrics": "A port of its own for Prometheus, open without a key.",
}
ORDER = ["ws_host", "ws_port", "ws_ssl", "ws_ping", "log", "http", "redis", "redis_alt", "authentication", "metrics",
         "services"]
PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*$")
WORDS = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}


def quote(text):
    """JSON's rules, which YAML shares. Not its pairs of surrogates: those YAML does not know."""
    result = []
    for character in text:
        if character in "\"\\":
            result.append("\\" + character)
        elif character < " " or "\x7f" <= character <= "\xa0" or character in "\u2028\u2029\ufeff\ufffe\uffff":
            result.append("\\u%04x" % ord(character))
        else:
            result.append(character)
    return "\"%s\"" % "".join(result)


def scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return "[%s]" % ", ".join(scalar(item) for item in value)
    return "null" if value is None else "{}" if value == {} else "%d" % value if isinstance(value, int) else repr(float(value))


def lines(tree, indent=""):
    for key, value in tree.items():
        name = key if PLAIN_KEY.match(key) and key.lower() not in WORDS else quote(key)
        if isinstance(value, dict) and value:
            yield "%s%s:" % (indent, name)
            for line in lines(value, indent + "  "):
                yield line
        else:
            yield "%s%s: %s" % (indent, name, scalar(value))


def yaml(tree, name):
    yield "# Made from SocketShark's configuration %s by holdfast import-socketshark." % quote(scrub(name))
    yield "# Every key, also those that SocketShark has not: docs/configuration.md"
    for key in ORDER:
        if key in tree and tree[key] != {}:
            if isinstance(tree[key], dict):
                yield ""
            if key in COMMENTS:
                yield "# " + COMMENTS[key]
            for line in lines({key: tree[key]}):
                yield line
    services = tree.get("services", {}).values()
    if services and all(service.get("require_authentication", True) for service in services):
        yield ""
        yield "# Every service asks for authentication, so a client has 60 s for it. In SocketShark it has for ever:"
        yield "# limits: {authentication_time: 0}"


def has_password(value):
    if isinstance(value, dict):
        return any(has_password(item) for item in value.values())
    return isinstance(value, str) and re.search(r"://[^/\s]*:\S*@", value) is not None


def main():
    name, seconds = sys.argv[1], float(sys.argv[2])
    # What the module prints must not get into the YAML, not even from a program that it starts. It is not shown either: it
    # may hold what standard error must not.
    output = os.dup(1)
    printed = tempfile.TemporaryFile()
    os.dup2(printed.fileno(), 1)
    module = run_module(name, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.flush()
    if os.fstat(printed.fileno()).st_size:
        note(name, "prints while it is imported; that is not shown here.")
    tree = read_all(module)
    if has_password(tree):
        note("passwords", "URLs with passwords are written as they are. Look at who may read the file, or take a key out and "
             "set its variable, such as HOLDFAST_SERVICES_NAME_AUTHORIZER.")
    text = ("\n".join(yaml(tree, name)) + "\n").encode("utf-8")
    while text:
        text = text[os.write(output, text):]
    leave(0)


main()
