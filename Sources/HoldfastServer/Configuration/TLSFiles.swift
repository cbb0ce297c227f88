import NIOSSL

/// A certificate or key that cannot be used.
struct TLSFileError: Error, CustomStringConvertible {
    /// The key of `ws_ssl` that names the file.
    let key: String
    let reason: String

    var description: String { "ws_ssl.\(self.key): \(self.reason)" }
}

extension NIOSSLContext {
    /// Reads a certificate chain and its key.
    convenience init(holdfast tls: Configuration.TLS) throws(TLSFileError) {
        let chain: [NIOSSLCertificate]
        let privateKey: NIOSSLPrivateKey
        do {
            chain = try NIOSSLCertificate.fromPEMFile(tls.certificate)
        } catch {
            throw TLSFileError(key: "cert", reason: "no certificates in PEM form can be read from \(tls.certificate)")
        }
        do {
            privateKey = try NIOSSLPrivateKey(file: tls.key, format: .pem)
        } catch {
            throw TLSFileError(
                key: "key", reason: "no private key in PEM form without a passphrase can be read from \(tls.key)")
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) },
            privateKey: .privateKey(privateKey)
        )
        // RFC 8996 retires what came before.
        configuration.minimumTLSVersion = .tlsv12
        do {
            try self.init(configuration: configuration)
        } catch {
            throw TLSFileError(key: "key", reason: "\(tls.key) does not belong to the certificate: \(error)")
        }
    }
}
