import HoldfastProtocol
import NIOCore

/// What is to be done, in the order in which the machine says it.
public enum ConnectionAction: Sendable, Equatable {
    /// Open a line; answered by ``ConnectionInput/opened(line:auth:)`` or ``ConnectionInput/closed(line:code:reason:retryAfter:)``.
    /// On HTTP nothing is connected, so `opened` comes at once.
    case open(line: Int, transport: ClientTransport)
    /// Send one event. On HTTP the events of one ``ConnectionMachine/handle(_:now:)`` travel together, the first of them to
    /// `POST /session` (`hello`, or a probe), later ones to `…/send`. There `number` is the event's number in the session,
    /// or that of the next counted one if it is not counted; `nil` for `hello` and `probe`, and on a WebSocket.
    case send(line: Int, text: ByteBuffer, number: UInt64?)
    /// Begin to listen on an HTTP line, after `received` counted events; ends the request before. `wait` is that of the
    /// poll, `nil` for a stream.
    case listen(line: Int, transport: ClientTransport, received: UInt64, wait: Span?)
    /// Forget the line: detach from it, close it, wait for nothing.
    case close(line: Int, code: CloseCode? = nil)
    /// Set the one timer, which replaces the one before; `nil`: none.
    case timer(at: Instant?)
    /// Keep this in place of the memory before; `nil`: forget it.
    case remember(LadderMemory?)
    /// Tell the app.
    case tell(ConnectionNews)
}

/// What the app is told.
public enum ConnectionNews: Sendable, Equatable {
    case state(ConnectionStateChange)
    /// A line carries the session. `event` is the reply to `hello`.
    case connected(resumed: Bool, event: WireEvent)
    /// `event` is the reply. With `since` and ``WireEvent/isRecovered``: nothing was lost.
    case subscribed(subscription: String, since: Position?, event: WireEvent)
    /// It has ended: by the app, by the server, or refused (then `event` is an error).
    case unsubscribed(subscription: String, event: WireEvent)
    /// A message, once and in order.
    case message(WireEvent)
    /// Messages after+1 … next-1 are lost; `nil`: not known.
    case gap(subscription: String, after: UInt64?, next: UInt64?)
    /// The answer to a command: the server's, or made here (codes `closed`, `queue_full`, `too_big`).
    case reply(id: String, event: WireEvent)
    /// A ping was answered.
    case roundTrip(Span, estimate: Span)
    /// The server wants us elsewhere; a new line is opened at that time.
    case goaway(at: Instant, event: WireEvent)
    /// Something that the app should know; nothing has to be done.
    case problem(ConnectionProblem)
}

public enum ConnectionState: String, Sendable, CaseIterable {
    case idle, connecting, connected, suspended, reconnecting, closed
}

/// Why a state was entered.
public enum ConnectionReason: String, Sendable, CaseIterable {
    case connect
    case newSession = "new_session"
    case resumed
    case lineClosed = "line_closed"
    case dead
    case connectTimeout = "connect_timeout"
    case helloRefused = "hello_refused"
    case badCount = "bad_count"
    case offline, online, shown, doubt
    case lateTimer = "late_timer"

    // Of `closed`:
    case closedByApp = "closed_by_app"
    case replaced, forbidden
    case authenticationExpired = "authentication_expired"
    case maxAttempts = "max_attempts"
}

public struct ConnectionStateChange: Sendable, Equatable {
    public let state: ConnectionState
    public let previous: ConnectionState
    public let reason: ConnectionReason
    /// When ``ConnectionState/reconnecting``: the time of the next attempt; `nil` while one is under way.
    public let nextAttemptAt: Instant?

    public init(
        state: ConnectionState,
        previous: ConnectionState,
        reason: ConnectionReason,
        nextAttemptAt: Instant? = nil
    ) {
        self.state = state
        self.previous = previous
        self.reason = reason
        self.nextAttemptAt = nextAttemptAt
    }
}

public struct ConnectionProblem: Sendable, Equatable {
    /// For programs: the server's own, or `unreadable`, `bad_count`, `hello_refused`, `server_error` (where the server
    /// gives none), `protocol_error`, `replaced`, `forbidden`, `authentication_expired`, `max_attempts`.
    public let code: String
    /// For people.
    public let text: String
    /// Of the line that was closed because of it.
    public let closeCode: CloseCode?
    /// What the server has said.
    public let event: WireEvent?

    public init(code: String, text: String, closeCode: CloseCode? = nil, event: WireEvent? = nil) {
        self.code = code
        self.text = text
        self.closeCode = closeCode
        self.event = event
    }
}
