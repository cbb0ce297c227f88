import Foundation
import NIOCore
import NIOPosix
import NIOSSL

/// What the network said, as a clause for a log line.
func describe(_ error: any Error) -> String {
    switch error {
    case let error as RESPError: return error.message
    case let error as NIOConnectionError:
        // Of several addresses the first that was tried says most.
        if let first = error.connectionErrors.first { return describe(first.error) }
        return "\(error.host) cannot be found"
    case let error as IOError:
        switch error.errnoCode {
        case ECONNREFUSED: return "the connection was refused"
        case ECONNRESET, EPIPE: return "the connection was reset"
        case ETIMEDOUT: return "the connection timed out"
        case EHOSTUNREACH, ENETUNREACH: return "there is no way to the host"
        case ENOENT: return "there is no such socket"
        default: return error.description
        }
    case ChannelError.connectTimeout: return "nobody has answered in time"
    case NIOSSLError.uncleanShutdown: return "the connection was lost"
    case let error as NIOSSLExtraError: return "TLS failed: \(error)"
    case let error as NIOSSLError: return "TLS failed: \(error)"
    default: return "\(error)"
    }
}
