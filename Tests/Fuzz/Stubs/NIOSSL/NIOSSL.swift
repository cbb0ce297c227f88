/// As much of swift-nio-ssl as the configuration names. No file is ever opened, and none can be read.
struct NoTLS: Error, CustomStringConvertible {
    var description: String { "fuzzing has no TLS" }
}

public struct NIOSSLCertificate: Sendable {
    public static func fromPEMFile(_ path: String) throws -> [NIOSSLCertificate] { throw NoTLS() }
}

public struct NIOSSLPrivateKey: Sendable {
    public enum Format: Sendable { case pem }

    public init(file: String, format: Format) throws { throw NoTLS() }
}

public enum NIOSSLCertificateSource: Sendable { case certificate(NIOSSLCertificate) }

public enum NIOSSLPrivateKeySource: Sendable { case privateKey(NIOSSLPrivateKey) }

public enum NIOSSLTrustRoots: Sendable { case file(String) }

public struct TLSConfiguration: Sendable {
    public enum Version: Sendable { case tlsv12 }

    public var certificateChain: [NIOSSLCertificateSource] = []
    public var privateKey: NIOSSLPrivateKeySource?
    public var trustRoots: NIOSSLTrustRoots?
    public var minimumTLSVersion: Version?

    public static func makeClientConfiguration() -> TLSConfiguration { TLSConfiguration() }

    public static func makeServerConfiguration(
        certificateChain: [NIOSSLCertificateSource],
        privateKey: NIOSSLPrivateKeySource
    ) -> TLSConfiguration { TLSConfiguration(certificateChain: certificateChain, privateKey: privateKey) }
}

/// A class, since the gateway adds an initializer to it.
open class NIOSSLContext {
    public init(configuration: TLSConfiguration) throws { throw NoTLS() }
}
