import HoldfastCore
import HoldfastProtocol
import NIOCore
import NIOSSL

/// Proves who the client is, in an `auth` event right behind `hello`.
public enum Credentials: Sendable, Equatable {
    /// Single-use.
    case ticket(String)
    case token(String)

    var event: ByteBuffer {
        let (method, value) =
            switch self {
            case .ticket(let ticket): ("ticket", ticket)
            case .token(let token): ("token", token)
            }
        return JSONWriter.object { json in
            json.member("event", "auth")
            json.member("method", method)
            json.member(method, value)
        }
    }
}

/// Keeps what is known of WebSockets on the way to a gateway beyond the life of a connection, so that a client that is started
/// again does not knock at a door that was found shut. Called on the connection's event loop: not a place to wait.
public protocol LadderStorage: Sendable {
    /// What was saved last; `nil` if there is nothing.
    func load() -> ByteBuffer?
    /// - Parameter memory: a JSON object; `nil` to forget it.
    func save(_ memory: ByteBuffer?)
}

/// What a ``ClientConnection`` may be told about itself. Only the URL has no default.
public struct ClientConfiguration: Sendable {
    public var url: GatewayURL
    /// Called for each line, while it opens.
    public var credentials: (@Sendable () async throws -> Credentials)?
    /// Whether ``credentials`` gives new ones when asked again, so that an expired authentication (close code 4001) is
    /// answered by asking, and does not end the connection.
    public var renewsCredentials = true
    /// `nil` remembers for as long as the connection lives. One for each gateway.
    public var ladderStorage: (any LadderStorage)?
    /// Sent with every request of the event stream and the long poll, and in `hello` on every transport.
    public var headers: [String: String] = [:]
    /// For `wss` and `https`.
    public var tls = TLSConfiguration.makeClientConfiguration()
    /// Name and version in `hello`, transports, timeout of a line, limits of the queue and the attempts.
    public var machine = ConnectionMachine.Options()
    /// Largest message taken from the gateway, in bytes; a larger one ends the line.
    public var messageBytes = 16 << 20
    /// Events that wait for the app. At the higher number the connection stops reading, at the lower one it goes on: a slow
    /// app slows the gateway down, and where that takes too long, recovers by position afterwards. Nothing is dropped here.
    public var waitingEvents = 64...256

    /// - Throws: ``GatewayURL/Invalid``.
    public init(url: String) throws(GatewayURL.Invalid) {
        self.url = try GatewayURL(url)
    }
}
