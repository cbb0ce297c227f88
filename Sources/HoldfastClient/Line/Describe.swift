import AsyncHTTPClient
import NIOCore
import NIOPosix
import NIOSSL

/// BoringSSL's own word for what went wrong, such as CERTIFICATE_VERIFY_FAILED, if there is one among all the rest.
private func reason(in text: String) -> String {
    guard let start = text.firstRange(of: "OPENSSL_internal:")?.upperBound else { return ": \(text)" }
    return ": \(text[start...].prefix { $0 == "_" || $0.isUppercase || $0.isNumber })"
}

/// An error of the network in words.
func describe(_ error: any Error) -> String {
    switch error {
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
        default: return error.description
        }
    case ChannelError.connectTimeout: return "nobody has answered in time"
    case let error as HTTPClientError where error == .connectTimeout || error == .deadlineExceeded:
        return "nobody has answered in time"
    case NIOSSLError.uncleanShutdown: return "the connection was lost"
    case let error as NIOSSLError: return "TLS failed\(reason(in: "\(error)"))"
    default: return "\(error)"
    }
}
