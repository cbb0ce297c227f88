import HoldfastCore
import HoldfastProtocol
import NIOCore

/// Who opened a line.
protocol LineOwner: AnyObject {
    /// Whether messages are to stay where they are.
    var isPaused: Bool { get }

    /// The line takes events.
    func opened(_ line: any ClientLine)
    /// The text of an event.
    func received(_ line: any ClientLine, _ text: ByteBuffer)
    /// A sign of life that is no event. Of a poll: it is over.
    func heard(_ line: any ClientLine)
    /// The stream or the poll ended without a word of the gateway.
    func cut(_ line: any ClientLine, reason: String)
    /// Told at most once, and never of a line that the owner has let go.
    func ended(_ line: any ClientLine, _ end: LineEnd)
}

/// One line to a gateway, from the opening to the end. Belongs to the owner's event loop.
protocol ClientLine: AnyObject {
    var id: Int { get }

    /// Sends an event with the next ``flush()``.
    /// - Parameter number: in the session if it counts; else that of the next one that does. `nil` on a WebSocket.
    func send(_ text: ByteBuffer, number: UInt64?)
    func flush()
    /// Waits for events over HTTP; what was waited for before is waited for no more.
    /// - Parameter wait: seconds that a poll may take; `nil` on a stream.
    func listen(_ transport: ClientTransport, received: UInt64, wait: Span?)
    func setReading(_ isReading: Bool)
    /// Hands over what has come, until the owner is paused.
    func readMessages()
    /// Closes the connection, waiting for nothing. The owner hears nothing of it any more.
    func letGo(code: CloseCode?)
}

/// Why a line has ended.
struct LineEnd: Equatable {
    let code: CloseCode
    /// For people.
    let reason: String
    /// What the gateway gave as its reason, word for word.
    let closeReason: String
    let retryAfter: RetryAfter?

    init(_ code: CloseCode, _ reason: String, closeReason: String = "", retryAfter: RetryAfter? = nil) {
        self.code = code
        self.reason = reason
        self.closeReason = closeReason
        self.retryAfter = retryAfter
    }

    /// The gateway's last word.
    init(word code: CloseCode?, reason: String) {
        let words = reason.isEmpty ? "" : ": \(reason)"
        self.init(code ?? .none, "closed by the gateway with \(code ?? .none)\(words)", closeReason: reason)
    }
}

extension CloseCode {
    /// A Close frame without a code (RFC 6455 §7.1.5).
    static let none = CloseCode(rawValue: 1005)
    /// No Close frame.
    static let abnormal = CloseCode(rawValue: 1006)
}
