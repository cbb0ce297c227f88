import HoldfastCore
import HoldfastProtocol
import NIOCore

/// What went wrong: ``code`` is for programs, ``text`` for people.
///
/// Codes made by the client: `closed`, `queue_full`, `too_big`, `buffer_full`, `not_subscribed`, `subscribed_already`, `undecodable`,
/// `unencodable`, `unreachable`, `refused` (an answer to a publication that says nothing else), and those of
/// ``HoldfastClient/Event/problem(_:)``. All others are the gateway's or a service's.
public struct HoldfastError: Error, Sendable, Equatable, CustomStringConvertible {
    public let code: String
    public let text: String
    /// Where a limit was exceeded: the limit, and what there was.
    public let limit: Int?
    public let actual: Int?
    /// What the service said, as JSON.
    public let data: ByteBuffer?

    public init(code: String, text: String, limit: Int? = nil, actual: Int? = nil, data: ByteBuffer? = nil) {
        self.code = code
        self.text = text
        self.limit = limit
        self.actual = actual
        self.data = data
    }

    /// - Parameters:
    ///   - event: a reply with status `error`.
    ///   - code: where it gives none.
    ///   - text: instead of its own words.
    init(_ event: WireEvent, code: String = "server_error", text: String? = nil) {
        self.init(
            code: event.code ?? code,
            text: text ?? event.error ?? "The gateway gave no reason.",
            limit: event["limit"]?.unsignedInteger.flatMap { Int(exactly: $0) },
            actual: event["actual"]?.unsignedInteger.flatMap { Int(exactly: $0) },
            data: event.data
        )
    }

    init(_ problem: ConnectionProblem) {
        self.init(code: problem.code, text: problem.text, data: problem.event?.data)
    }

    /// The client was closed, and not by the app.
    init(closed reason: ConnectionReason) {
        self.init(code: "closed", text: "The client is closed: \(reason.rawValue.replacing("_", with: " ")).")
    }

    public var description: String { "\(self.text) (\(self.code))" }
}
