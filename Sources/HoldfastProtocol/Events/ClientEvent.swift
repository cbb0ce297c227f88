import NIOCore

/// One event from a client, read as far as every dialect understands it.
public struct ClientEvent: Sendable {
    /// What the event is called. `other` carries the name of an event that the protocol does not know.
    public enum Name: Sendable, Equatable {
        case auth, subscribe, message, unsubscribe, ping
        case hello, probe, pong, ack
        case other(String)
    }

    public let name: Name
    public let object: JSONObject

    /// Reads one event.
    /// - Throws: ``ProtocolError/badEvent`` when the text is no JSON object with a string `event` of at most 40 code points
    ///   (socketshark.md §3.1).
    public init(parsing text: ByteBuffer, limits: JSONLimits = JSONLimits()) throws(ProtocolError) {
        guard let object = try? JSONObject(parsing: text, limits: limits), let name = object["event"]?.string,
            name.unicodeScalars.count <= ProtocolLimits.eventName
        else { throw .badEvent }
        self.object = object
        self.name = Name(name)
    }

    /// The same event in memory of its own, so that one that waits does not keep the network's buffer alive.
    public func copied() -> ClientEvent {
        ClientEvent(name: self.name, object: self.object.copied())
    }

    private init(name: Name, object: JSONObject) {
        self.name = name
        self.object = object
    }

    /// About how much memory the event takes.
    public var byteCount: Int {
        self.object.members.reduce(64) { $0 + $1.name.utf8.count + $1.value.raw.readableBytes + 64 }
    }

    /// Whether the event counts (protocol.md, Counting).
    public var isCounted: Bool {
        switch self.name {
        case .hello, .probe, .ping, .pong, .ack: false
        case .other(let name): name != "goaway"
        case .auth, .subscribe, .message, .unsubscribe: true
        }
    }

    /// `received`: how many events the client says it has had.
    /// - Throws: ``ProtocolError/badCount`` if the member is there but no count.
    public func received() throws(ProtocolError) -> UInt64? {
        guard let value = self.object["received"] else { return nil }
        guard let count = value.unsignedInteger else { throw .badCount }
        return count
    }

    /// `id` of a native event, to be echoed byte for byte. - Throws: ``ProtocolError/badID``
    public func id() throws(ProtocolError) -> JSONValue? {
        guard let value = self.object["id"] else { return nil }
        switch value.kind {
        case .string:
            guard let text = value.string, text.unicodeScalars.count <= ProtocolLimits.eventID else { throw .badID }
        case .number:
            guard value.raw.readableBytes <= 20, Int64(value.text) != nil else { throw .badID }
        case .object, .array, .boolean, .null:
            throw .badID
        }
        return value
    }

    /// `data` of a `ping`: a string's first 128 code points, else `nil` (socketshark.md §3.4).
    public var pingData: String? {
        guard let text = self.object["data"]?.string else { return nil }
        guard text.unicodeScalars.count > ProtocolLimits.pingData else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.prefix(ProtocolLimits.pingData)))
    }
}

extension ClientEvent.Name {
    init(_ text: String) {
        switch text {
        case "auth": self = .auth
        case "subscribe": self = .subscribe
        case "message": self = .message
        case "unsubscribe": self = .unsubscribe
        case "ping": self = .ping
        case "hello": self = .hello
        case "probe": self = .probe
        case "pong": self = .pong
        case "ack": self = .ack
        default: self = .other(text)
        }
    }

    public var text: String {
        switch self {
        case .auth: "auth"
        case .subscribe: "subscribe"
        case .message: "message"
        case .unsubscribe: "unsubscribe"
        case .ping: "ping"
        case .hello: "hello"
        case .probe: "probe"
        case .pong: "pong"
        case .ack: "ack"
        case .other(let text): text
        }
    }
}

/// What a `hello` asks for.
public struct ClientHello: Sendable {
    public struct Resume: Sendable {
        /// `nil` if the text has not the form of a session's name; such a session cannot exist.
        public let session: SessionName?
        /// How many events the client has had in that session.
        public let received: UInt64
    }

    public let resume: Resume?
    /// `client.name` and `client.version`, for people who look at the sessions; each cut to 64 code points.
    public let client: String?

    /// - Throws: ``ProtocolError/unsupportedVersion`` or ``ProtocolError/badHello``.
    public init(_ event: ClientEvent, limits: JSONLimits = JSONLimits()) throws(ProtocolError) {
        guard event.object["version"]?.unsignedInteger == ProtocolLimits.version else { throw .unsupportedVersion }
        if let resume = event.object["resume"], resume.kind != .null {
            guard let object = try? JSONObject(parsing: resume.raw, limits: limits),
                let session = object["session"]?.string, let received = object["received"]?.unsignedInteger
            else { throw .badHello }
            self.resume = Resume(session: SessionName(session), received: received)
        } else {
            self.resume = nil
        }
        if let client = event.object["client"], let object = try? JSONObject(parsing: client.raw, limits: limits) {
            let words = ["name", "version"].compactMap {
                object[$0]?.string.map { String($0.unicodeScalars.prefix(64)) }
            }
            self.client = words.isEmpty ? nil : words.joined(separator: " ")
        } else {
            self.client = nil
        }
    }
}

/// A subscription's name, `service.topic` (socketshark.md §5.1).
public struct SubscriptionName: Sendable, Hashable {
    public let text: String
    /// The part before the first dot.
    public let service: String

    public var topic: Substring {
        Substring(self.text.unicodeScalars.dropFirst(self.service.unicodeScalars.count + 1))
    }

    /// Names are the same only byte for byte (``ExactName``).
    public static func == (left: SubscriptionName, right: SubscriptionName) -> Bool {
        ExactName(left.text) == ExactName(right.text)
    }

    public func hash(into hasher: inout Hasher) { ExactName(self.text).hash(into: &hasher) }

    /// - Throws: ``ProtocolError/badSubscription``, or `limit_exceeded` when the name has more than `limit` bytes.
    public init(_ text: String, limit: Int) throws(ProtocolError) {
        // Code points, not characters: a dot with a combining mark behind it is a dot (socketshark.md §5.1).
        let scalars = text.unicodeScalars
        guard let dot = scalars.firstIndex(of: "."), dot != scalars.startIndex,
            scalars.index(after: dot) != scalars.endIndex
        else { throw .badSubscription }
        let length = text.utf8.count
        guard length <= limit else {
            throw .limitExceeded("The subscription's length in bytes", limit: limit, actual: length)
        }
        self.text = text
        self.service = String(scalars[..<dot])
    }
}
