import HoldfastCore
import HoldfastProtocol
import NIOCore

/// The machine's inputs and actions in the words of the scenarios.
enum ScenarioVocabulary {
    static let inputs: Set<String> = [
        "connect", "close", "subscribe", "unsubscribe", "message", "opened", "receive", "heard", "cut", "closed",
        "timer", "hidden", "shown", "offline", "online", "doubt", "changed", "probe", "memory",
    ]
    static let actions: Set<String> = [
        "open", "send", "listen", "close", "timer", "state", "connected", "subscribed", "unsubscribed", "message",
        "gap", "reply", "rtt", "goaway", "remember", "error",
    ]

    static func input(_ input: JSONTree) throws -> ConnectionInput {
        let line = input["line"]?.int ?? 0
        let id = input["id"]?.string ?? ""
        let subscription = input["subscription"]?.string ?? ""
        switch input["type"]?.string {
        case "connect": return .connect
        case "close": return .close
        case "subscribe":
            return .subscribe(
                id: id, subscription: subscription, since: Self.position(input["since"]), fields: try Self.fields(input)
            )
        case "unsubscribe": return .unsubscribe(id: id, subscription: subscription)
        case "message":
            guard let data = input["data"] else { throw ScenarioFailure("a message without data") }
            return .message(
                id: id, subscription: subscription, data: ByteBuffer(string: data.text), fields: try Self.fields(input)
            )
        case "opened": return .opened(line: line, auth: input["auth"].map { ByteBuffer(string: $0.text) })
        case "receive":
            guard let text = input["event"]?.text ?? input["text"]?.string else {
                throw ScenarioFailure("receive what?")
            }
            return .receive(line: line, text: ByteBuffer(string: text))
        case "heard": return .heard(line: line)
        case "cut": return .cut(line: line)
        case "closed":
            return .closed(
                line: line,
                code: CloseCode(rawValue: UInt16(input["code"]?.int ?? 0)),
                reason: input["reason"]?.string ?? "",
                retryAfter: Self.retryAfter(input["retryAfter"])
            )
        case "timer": return .timer
        case "hidden": return .hidden
        case "shown": return .shown
        case "offline": return .offline
        case "online": return .online
        case "doubt": return .doubt
        case "changed": return .changed
        case "probe": return .probe
        case "memory": return .memory(input["memory"].flatMap { LadderMemory(parsing: ByteBuffer(string: $0.text)) })
        case let type: throw ScenarioFailure("unknown input \(type ?? "without a type")")
        }
    }

    private static func fields(_ input: JSONTree) throws -> [JSONObject.Member] {
        try (input["fields"]?.members ?? [:]).map { name, value in
            JSONObject.Member(name: name, value: try JSONValue(parsing: ByteBuffer(string: value.text)))
        }
    }

    private static func position(_ value: JSONTree?) -> Position? {
        guard let epoch = value?["epoch"]?.string, let offset = value?["offset"]?.int else { return nil }
        return Position(epoch: epoch, offset: UInt64(offset))
    }

    private static func retryAfter(_ value: JSONTree?) -> RetryAfter? {
        if let seconds = value?.double { return .seconds(seconds) }
        let bounds = value?.elements.compactMap(\.double) ?? []
        return bounds.count == 2 ? .between(bounds[0], bounds[1]) : nil
    }

    static func tree(_ action: ConnectionAction) throws -> JSONTree {
        switch action {
        case .open(let line, let transport):
            return Self.object("open", ["line": .int(line), "transport": .string(transport.rawValue)])
        case .send(let line, let text, let number):
            return Self.object(
                "send",
                [
                    "line": .int(line), "event": try JSONTree(text),
                    "seq": number.map { .number(String($0)) },
                ])
        case .listen(let line, let transport, let received, let wait):
            return Self.object(
                "listen",
                [
                    "line": .int(line), "transport": .string(transport.rawValue),
                    "received": .number(String(received)), "wait": wait.map { .number(String($0.seconds)) },
                ])
        case .close(let line, let code):
            return Self.object("close", ["line": .int(line), "code": code.map { .int(Int($0.rawValue)) }])
        case .timer(let at): return Self.object("timer", ["at": at.map { .time($0) } ?? .null])
        case .remember(let memory):
            return Self.object("remember", ["memory": try memory.map { try JSONTree($0.json()) } ?? .null])
        case .tell(let news): return try Self.tree(news)
        }
    }

    private static func tree(_ news: ConnectionNews) throws -> JSONTree {
        switch news {
        case .state(let change):
            return Self.object(
                "state",
                [
                    "state": .string(change.state.rawValue), "previous": .string(change.previous.rawValue),
                    "reason": .string(change.reason.rawValue), "nextAttemptAt": change.nextAttemptAt.map { .time($0) },
                ])
        case .connected(let resumed, let event):
            return Self.object("connected", ["resumed": .boolean(resumed), "event": try JSONTree(event.text)])
        case .subscribed(let subscription, let since, let event):
            return Self.object(
                "subscribed",
                [
                    "subscription": .string(subscription),
                    "since": since.map { .object(["epoch": .string($0.epoch), "offset": .number(String($0.offset))]) },
                    "event": try JSONTree(event.text),
                ])
        case .unsubscribed(let subscription, let event):
            return Self.object(
                "unsubscribed", ["subscription": .string(subscription), "event": try JSONTree(event.text)]
            )
        case .message(let event): return Self.object("message", ["event": try JSONTree(event.text)])
        case .gap(let subscription, let after, let next):
            return Self.object(
                "gap",
                [
                    "subscription": .string(subscription),
                    "after": after.map { .number(String($0)) } ?? .null,
                    "next": next.map { .number(String($0)) } ?? .null,
                ])
        case .reply(let id, let event):
            return Self.object("reply", ["id": .string(id), "event": try JSONTree(event.text)])
        case .roundTrip(let time, let estimate):
            // The JavaScript machine shows whole milliseconds.
            let rounded = estimate.milliseconds.rounded(.toNearestOrAwayFromZero)
            return Self.object("rtt", ["rtt": .number(String(time.milliseconds)), "srtt": .number(String(rounded))])
        case .goaway(let at, let event):
            return Self.object("goaway", ["at": .time(at), "event": try JSONTree(event.text)])
        case .problem(let problem):
            return Self.object(
                "error",
                [
                    "code": .string(problem.code), "error": .string(problem.text),
                    "closeCode": problem.closeCode.map { .int(Int($0.rawValue)) },
                    "event": try problem.event.map { try JSONTree($0.text) },
                ])
        }
    }

    /// A member that is `nil` is absent.
    private static func object(_ type: String, _ members: [String: JSONTree?]) -> JSONTree {
        .object(members.compactMapValues { $0 }.merging(["type": .string(type)]) { $1 })
    }
}

extension JSONTree {
    static func int(_ value: Int) -> JSONTree { .number(String(value)) }

    /// In milliseconds.
    static func time(_ instant: Instant) -> JSONTree { .number(String(Double(instant.microseconds) / 1000)) }
}
