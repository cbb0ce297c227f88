import NIOSSL

/// Where one Redis is and how to talk to it (socketshark.md §10).
public struct RedisSettings: Sendable, Equatable, CustomStringConvertible {
    public var host = "localhost"
    public var port = 6379
    /// Path of a unix socket, instead of host and port.
    public var socket: String?
    public var database = 0
    public var username: String?
    public var password: String?
    public var tls: TLS?
    /// Put before a subscription's name to make its channel's name.
    public var channelPrefix = ""
    /// Seconds between two PINGs; `nil` for none.
    public var pingInterval: Double? = 10
    /// Seconds that the answer may take before the connection is given up.
    public var pingTimeout: Double? = 5
    /// Seconds that a channel stays subscribed after its last subscriber has left.
    public var linger = 120.0
    /// Seconds that a client's subscribe waits for Redis.
    public var subscribeTimeout = 5.0

    public init() {}

    public struct TLS: Sendable, Equatable {
        /// Certificates in PEM form that are trusted instead of the system's.
        public var authorities: String?
        /// Our own certificate and its key, in PEM form.
        public var certificate: String?
        public var key: String?
        /// Name that Redis's certificate must have; `nil` takes the host.
        public var serverName: String?

        public init(
            authorities: String? = nil,
            certificate: String? = nil,
            key: String? = nil,
            serverName: String? = nil
        ) {
            self.authorities = authorities
            self.certificate = certificate
            self.key = key
            self.serverName = serverName
        }

        /// What is wrong with the files, by key of the configuration.
        public var problem: (key: String, reason: String)? {
            if (self.certificate == nil) != (self.key == nil) {
                return (self.certificate == nil ? "cert" : "key", "is missing: cert and key go together")
            }
            if let file = self.authorities, (try? NIOSSLCertificate.fromPEMFile(file))?.isEmpty != false {
                return ("ca", "\(file) has no certificates in PEM form that can be read")
            }
            do {
                _ = try self.context()
            } catch {
                return ("cert", "cannot be used: \(error)")
            }
            return nil
        }

        func context() throws -> NIOSSLContext {
            var configuration = TLSConfiguration.makeClientConfiguration()
            if let file = self.authorities { configuration.trustRoots = .file(file) }
            if let certificate = self.certificate, let key = self.key {
                configuration.certificateChain = try NIOSSLCertificate.fromPEMFile(certificate).map { .certificate($0) }
                configuration.privateKey = .privateKey(try NIOSSLPrivateKey(file: key, format: .pem))
            }
            return try NIOSSLContext(configuration: configuration)
        }
    }

    /// Without secrets.
    public var description: String { self.socket ?? "\(self.host):\(self.port)" }
}
