import HoldfastProtocol
import NIOCore

/// What has happened: the facts that a ``ConnectionMachine`` is told.
///
/// The same as those of the JavaScript machine, so that both can run the scenarios in `Tests/Scenarios`.
public enum ConnectionInput: Sendable {
    // From the app. An `id` names a command in its reply; no two commands of a machine may have the same.

    /// The app wants to be connected (again), and at once.
    case connect
    /// The app has finished.
    case close
    /// `since` is the position after which the app wants messages. `fields` are members added to the event.
    case subscribe(id: String, subscription: String, since: Position? = nil, fields: [JSONObject.Member] = [])
    case unsubscribe(id: String, subscription: String)
    /// Answered by ``ConnectionNews/reply(id:event:)`` with the same `id`. `data` is one JSON value and goes out as it is.
    case message(id: String, subscription: String, data: ByteBuffer, fields: [JSONObject.Member] = [])

    // From the lines.

    /// The line is open. `auth` is the event that authenticates a new session.
    case opened(line: Int, auth: ByteBuffer? = nil)
    /// A text frame. On HTTP one event of an answer; the count that `…/send` answers is an event `ack`.
    case receive(line: Int, text: ByteBuffer)
    /// On HTTP: a comment of a stream; or an answer has ended, of a poll or of the first request.
    case heard(line: Int)
    /// The request that listens ended without a word of the server, or failed.
    case cut(line: Int)
    /// The line failed or ended; code 1006 where it gave none.
    case closed(line: Int, code: CloseCode, reason: String = "", retryAfter: RetryAfter? = nil)

    // From the rest of the world.

    /// The time of the last ``ConnectionAction/timer(at:)`` has come.
    case timer
    /// Nobody looks: the app goes to the background.
    case hidden
    case shown
    /// The network, as far as the platform knows.
    case offline
    case online
    /// Something happened that often kills lines: ask.
    case doubt
    /// This is another network now.
    case changed
    /// The app wants a WebSocket to be tried now.
    case probe
    /// What was remembered (``ConnectionAction/remember(_:)``): before `connect`, and when another client has changed it.
    /// `nil`: nothing, or nothing that can be read.
    case memory(LadderMemory?)
}
