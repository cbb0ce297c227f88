import HoldfastProtocol
import NIOCore

/// An event of the server as it came over the wire, or one that the client made in its place.
///
/// Only the first level is looked at. What the app gets out of it, `data` above all, are the bytes of the wire.
public struct WireEvent: Sendable, Equatable {
    /// The event's own text. Equality is that of the text.
    public let text: ByteBuffer
    private let object: JSONObject?
    /// Whether the text is JSON that may be an event: an object, or an array, which is an event without members.
    public let isReadable: Bool

    /// What a client takes from a server. `data` may be nested as deep as any server allows: nesting is counted, not
    /// recursed into, so that it costs nothing here.
    public static let limits = JSONLimits(depth: 100_000, members: 1024)

    /// Takes any text. One that is no JSON object has no members.
    public init(_ text: ByteBuffer) {
        self.text = text
        self.object = try? JSONObject(parsing: text, limits: Self.limits)
        self.isReadable = self.object != nil || (try? JSONValue(parsing: text, limits: Self.limits))?.kind == .array
    }

    init(_ write: (inout JSONWriter) -> Void) {
        self.init(JSONWriter.object(write))
    }

    public static func == (left: WireEvent, right: WireEvent) -> Bool { left.text == right.text }

    public subscript(_ member: String) -> JSONValue? { self.object?[member] }

    /// `event`: what the event is called.
    public var name: String? { self["event"]?.string }
    public var subscription: String? { self["subscription"]?.string }
    /// `status`: there in replies only.
    public var status: String? { self["status"]?.string }
    public var isReply: Bool { self["status"] != nil }
    public var id: String? { self["id"]?.string }
    /// `code` and `error` of a reply that is an error: for programs, and for people.
    public var code: String? { self["code"]?.string }
    public var error: String? { self["error"]?.string }
    /// Of the reply to `hello`: the session's public part, without the secret behind the dot.
    public var sessionHandle: String? { self["session"]?.string.map { String($0.prefix { $0 != "." }) } }
    /// Place of a message in a topic with history.
    public var offset: UInt64? { self["offset"]?.unsignedInteger }
    /// Payload of a message, byte for byte.
    public var data: ByteBuffer? { self["data"]?.raw }
    public var position: Position? { self["position"].flatMap { Position($0) } }
    /// Of the reply to a `subscribe` with a position: whether nothing was lost.
    public var isRecovered: Bool { self["recovered"]?.boolean == true }

    var retryAfter: RetryAfter? {
        guard let value = self["retry_after"] else { return nil }
        if let seconds = value.double { return .seconds(seconds) }
        guard let bounds = try? value.elements(limit: 2)?.map(\.double), bounds.count == 2, let from = bounds[0],
            let to = bounds[1]
        else { return nil }
        return .between(from, to)
    }

    /// A member that is a length of time in seconds, if it is one that can be.
    func span(_ member: String) -> Span? { Self.span(self[member]) }

    /// The same of a member of the object `outer`.
    func span(_ outer: String, _ member: String) -> Span? {
        guard let value = self[outer], let object = try? JSONObject(parsing: value.raw, limits: Self.limits) else {
            return nil
        }
        return Self.span(object[member])
    }

    private static func span(_ value: JSONValue?) -> Span? {
        guard let seconds = value?.double, seconds > 0, seconds < .infinity else { return nil }
        return Span(bounded: seconds, .up)
    }
}

extension WireEvent: CustomStringConvertible {
    /// The text, but for that of a `hello`, which holds the session's secret.
    public var description: String {
        self.name == "hello" ? "hello \(self.status ?? "")" : String(buffer: self.text)
    }
}
