import AsyncHTTPClient
import CoreMetrics
import Foundation
import HoldfastCore
import HoldfastProtocol
import Logging
import NIOCore
import NIOPosix
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
    /// Keeps it in place of what was saved before.
    /// - Parameter memory: a JSON object; `nil` to forget it.
    func save(_ memory: ByteBuffer?)
}

/// A proxy that stands between the client and the world. Lines that are encrypted, and WebSockets, go through it with CONNECT
/// (RFC 9110 §9.3.6); it sees no more of an encrypted line than the gateway's name.
///
/// An encrypted gateway behind a proxy has to be named by a host name: certificates for addresses are compared with the address that
/// was connected to, and that is the proxy's. For the same reason, do not trust an authority that gives the proxy a certificate for its
/// own address.
public struct HTTPProxy: Sendable, Equatable {
    public var host: String
    public var port: Int
    /// Basic authentication (RFC 7617); shown nowhere.
    public var login: Login?

    /// User and password.
    public struct Login: Sendable, Equatable, CustomStringConvertible {
        let user: String
        let password: String

        public init(user: String, password: String) {
            self.user = user
            self.password = password
        }

        /// The value of `Proxy-Authorization`.
        var header: String { "Basic \(Data("\(self.user):\(self.password)".utf8).base64EncodedString())" }

        public var description: String { "\(self.user):…" }
    }

    public init(host: String, port: Int, login: Login? = nil) {
        self.host = host
        self.port = port
        self.login = login
    }

    /// From a URL.
    /// - Parameter url: `http://[user:password@]host:port`, as in the environment variable `HTTPS_PROXY`.
    /// - Returns: `nil` if it is none, or if the proxy itself is to be spoken to over TLS, which is not supported.
    public init?(url: String) {
        guard let parts = URLComponents(string: url), parts.scheme == "http", let host = parts.host, !host.isEmpty
        else {
            return nil
        }
        let login = parts.user.map { Login(user: $0, password: parts.password ?? "") }
        self.init(host: host.trimmingCharacters(in: ["[", "]"]), port: parts.port ?? 80, login: login)
    }
}

/// What a ``HoldfastClient`` may be told about itself. Only the URL has no default.
public struct ClientConfiguration: Sendable {
    /// The gateway.
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
    /// All lines go through it.
    public var proxy: HTTPProxy?
    /// For ``HoldfastClient/publish(_:to:idempotencyKey:)``: `api.key` of the gateway.
    public var apiKey: String?
    /// What happens when messages come faster than a loop reads them.
    public var buffer = BufferPolicy.fail()
    /// How long a graceful shutdown waits for replies.
    public var closeTimeout = Duration.seconds(5)
    /// Losses and problems are warnings, sessions are infos, lines are debug. By default nothing is logged.
    public var logger = Logger(label: "holdfast.client", factory: { _ in SwiftLogNoOpLogHandler() })
    /// Gets `holdfast_client_…`: messages, gaps, sessions, attempts by transport, round-trip times. `nil`: the program's.
    public var metrics: (any MetricsFactory)?
    /// `clientName` and `clientVersion` (in `hello`), `transports`, `connectTimeout` of a line, `queueBytes` (what waits to be sent),
    /// `maxAttempts` (lines in a row that were of no use; `nil` never stops).
    public var machine = ConnectionMachine.Options()
    /// Largest message taken from the gateway, in bytes; a larger one ends the line.
    public var messageBytes = 16 << 20
    /// Events that wait for the app. At the higher number the connection stops reading, at the lower one it goes on: a slow
    /// app slows the gateway down, and where that takes too long, recovers by position afterwards. Nothing is dropped here.
    public var waitingEvents = 64...256

    /// With a default for all but the gateway.
    /// - Throws: ``GatewayURL/Invalid``.
    public init(url: String) throws(GatewayURL.Invalid) {
        self.url = try GatewayURL(url)
    }
}

extension ClientConfiguration {
    /// To be shut down by who made it.
    func makeHTTPClient() -> HTTPClient {
        var configuration = HTTPClient.Configuration(
            tlsConfiguration: self.tls,
            // A portal that answers in the gateway's place must not get our headers.
            redirectConfiguration: .disallow
        )
        configuration.timeout.connect = .microseconds(self.machine.connectTimeout.microseconds)
        // When to try again is said elsewhere.
        configuration.connectionPool.retryConnectionEstablishment = false
        configuration.proxy = self.proxy.map { proxy in
            .server(
                host: proxy.host, port: proxy.port,
                authorization: proxy.login.map { .basic(username: $0.user, password: $0.password) })
        }
        // Not on the app's loop, which may be stopped before the client's last connection is closed.
        return HTTPClient(
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup.singleton), configuration: configuration)
    }
}

extension ClientConfiguration: CustomStringConvertible, CustomDebugStringConvertible {
    /// The address. All else may hold secrets.
    public var description: String { "ClientConfiguration(\(self.url.http("")))" }
    public var debugDescription: String { self.description }
}
