import NIOCore
import NIOSSL

/// How to greet a server, and what may wait for it.
public struct RESPConnectionConfiguration: Sendable, CustomStringConvertible, CustomReflectable {
    /// Who we are. Nothing prints it.
    public struct Authentication: Sendable, CustomStringConvertible, CustomReflectable {
        let username: String?
        let password: String

        /// - Parameter username: `nil` for the server's default user.
        public init(username: String? = nil, password: String) {
            self.username = username
            self.password = password
        }

        public var description: String { "(hidden)" }
        /// `dump` and test frameworks look inside what they print.
        public var customMirror: Mirror { Mirror(self, children: []) }
    }

    public struct TLS: Sendable {
        enum Kind: Sendable {
            case disable
            case enable(NIOSSLContext, serverName: String?)
        }

        let kind: Kind

        public static var disable: TLS { TLS(kind: .disable) }

        /// - Parameter tlsServerName: the name to send (SNI) and to find in the certificate; `nil` is the host name of the
        ///   address, if it is a name.
        public static func enable(_ context: NIOSSLContext, tlsServerName: String? = nil) -> TLS {
            TLS(kind: .enable(context, serverName: tlsServerName))
        }
    }

    public enum ProtocolVersion: Sendable, Equatable {
        /// RESP3 by `HELLO 3`, RESP2 if the server does not know that.
        case automatic
        /// For proxies that close the connection at a command they do not know.
        case resp2
    }

    public var authentication: Authentication?
    /// For `SELECT`.
    public var databaseNumber: Int
    /// For `CLIENT LIST` of the server: printable ASCII without spaces.
    public var clientName: String?
    /// For the connection, TLS and the greeting together.
    public var connectTimeout: TimeAmount
    /// After this time without an answer the connection is dropped, for answers come in order; `nil` for never. Time in
    /// which reading is paused does not count.
    public var commandTimeout: TimeAmount?
    public var tls: TLS
    public var protocolVersion: ProtocolVersion
    public var limits = RESPParser.Limits()
    /// Most commands that wait for an answer.
    public var maxCommandsInFlight = 65_536
    /// Most bytes of commands that wait for the network.
    public var maxOutboundBytes = 256 << 20

    public init(
        authentication: Authentication? = nil,
        databaseNumber: Int = 0,
        clientName: String? = nil,
        connectTimeout: TimeAmount = .seconds(10),
        commandTimeout: TimeAmount? = .seconds(30),
        tls: TLS = .disable,
        protocolVersion: ProtocolVersion = .automatic
    ) {
        self.authentication = authentication
        self.databaseNumber = databaseNumber
        self.clientName = clientName
        self.connectTimeout = connectTimeout
        self.commandTimeout = commandTimeout
        self.tls = tls
        self.protocolVersion = protocolVersion
    }

    public var description: String {
        let usesTLS = if case .enable = self.tls.kind { true } else { false }
        let authentication = self.authentication == nil ? "no authentication" : "authentication"
        return "database \(self.databaseNumber), \(authentication), \(usesTLS ? "TLS" : "no TLS")"
    }

    public var customMirror: Mirror { Mirror(self, children: ["description": self.description]) }

    /// - Throws: `.invalidConfiguration` for what no server would take.
    func validate() throws(RESPError) {
        guard self.databaseNumber >= 0 else {
            throw RESPError(.invalidConfiguration, "database number \(self.databaseNumber) is negative")
        }
        if let name = self.clientName {
            // The server's own rule (validateClientName in networking.c).
            guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw RESPError(.invalidConfiguration, "a client name must be printable ASCII without spaces")
            }
        }
    }
}
