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
    /// A text frame.
    case receive(line: Int, text: ByteBuffer)
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
}
