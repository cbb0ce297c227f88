/// The one error of this module. It never holds a user name or a password.
public struct RESPError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Code: Sendable, Equatable {
        /// The configuration cannot be: a client name with spaces, a negative database number.
        case invalidConfiguration
        /// There is no connection: refused, unknown host, TLS.
        case connectFailed
        /// Connection, TLS and the server's greeting together took longer than the connect timeout.
        case connectTimeout
        /// The server wants other credentials.
        case authenticationFailed
        /// The server refused something else of the greeting, as the database number.
        case handshakeFailed
        /// The peer does not speak RESP, or goes beyond a limit of ours.
        case protocolError
        /// The server answered the command with an error; the message is the server's, its first word the kind.
        case commandError
        /// The server did not answer in time. Whether the command was carried out is not known.
        case commandTimeout
        /// The connection ended before the answer. Whether the command was carried out is not known.
        case connectionClosed
        /// There is no connection now; nothing was sent.
        case notConnected
        /// As many commands, or bytes of commands, wait as the limit allows; nothing was sent.
        case tooManyCommands
        /// A command that changes what replies mean, for which there is a method or no support; nothing was sent.
        case unsupportedCommand
        /// ``RESPLink/stop()`` was called; nothing was sent.
        case stopped
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { self.message }

    /// The first word of a server's error, as `NOPERM` or `LOADING`; `nil` if the server did not answer with an error.
    public var serverErrorKind: Substring? {
        self.code == .commandError ? self.message.prefix { $0 != " " } : nil
    }

    /// Whether the same command may succeed a little later.
    public var isRetriable: Bool {
        switch self.code {
        case .connectFailed, .connectTimeout, .commandTimeout, .connectionClosed, .notConnected, .tooManyCommands:
            return true
        case .commandError:
            // The kinds by which a server says that it is not ready now.
            switch self.serverErrorKind {
            case "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN": return true
            default: return false
            }
        case .invalidConfiguration, .authenticationFailed, .handshakeFailed, .protocolError, .unsupportedCommand,
            .stopped:
            return false
        }
    }

    static func protocolError(_ message: String) -> RESPError { RESPError(.protocolError, message) }
}
