/// Where a server listens.
public struct RESPServerAddress: Sendable, Equatable, CustomStringConvertible {
    enum Kind: Sendable, Equatable {
        case hostname(String, port: Int)
        case unixDomainSocket(path: String)
    }

    let kind: Kind

    public static func hostname(_ host: String, port: Int = 6379) -> RESPServerAddress {
        RESPServerAddress(kind: .hostname(host, port: port))
    }

    public static func unixDomainSocket(path: String) -> RESPServerAddress {
        RESPServerAddress(kind: .unixDomainSocket(path: path))
    }

    public var description: String {
        switch self.kind {
        case .hostname(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unixDomainSocket(let path): path
        }
    }
}
