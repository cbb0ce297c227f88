import NIOCore
import NIOPosix
import NIOSSL

/// An error of the network in words.
func describe(_ error: any Error) -> String {
    switch error {
    case let error as NIOConnectionError:
        // Of several addresses the first that was tried says most.
        if let first = error.connectionErrors.first { return describe(first.error) }
        let failure = error.dnsAError ?? error.dnsAAAAError
        return failure.map { "\(error.host) cannot be found: \(describe($0))" } ?? "\(error.host) cannot be found"
    case let error as IOError:
        switch error.errnoCode {
        case ECONNREFUSED: return "the connection was refused"
        case ECONNRESET, EPIPE: return "the connection was reset"
        case ETIMEDOUT: return "the connection timed out"
        case EHOSTUNREACH, ENETUNREACH: return "there is no way to the host"
        default: return error.description
        }
    case ChannelError.connectTimeout: return "nobody has answered in time"
    case let error as NIOSSLError: return "TLS failed: \(error)"
    default: return "\(error)"
    }
}
