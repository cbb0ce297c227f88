import Foundation
import HoldfastServer
import NIOSSL

/// A certificate for `localhost` and 127.0.0.1 that vouches for itself and protects nothing. Valid for a hundred years.
///
/// Made with `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj /CN=localhost
/// -addext subjectAltName=DNS:localhost,IP:127.0.0.1`.
enum TestCertificate {
    static let certificate = """
        -----BEGIN CERTIFICATE-----
        MIIBmzCCAUGgAwIBAgIUZtXkUKQyrCSLkqG4vVR9EB3OY3MwCgYIKoZIzj0EAwIw
        FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTEwNTI0NFoYDzIxMjYxMDI4
        MTA1MjQ0WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
        PQMBBwNCAATMEIgaBLwC9MI5Jho2T276FNNILnWJNhuQqAH4WHxTnWHI4NZ5XSFu
        ctvOTwByWFNEQ3mWZlvaSoA33wt1alP1o28wbTAdBgNVHQ4EFgQUZJUjnN1EWL6a
        zXUTFzWNkepee3AwHwYDVR0jBBgwFoAUZJUjnN1EWL6azXUTFzWNkepee3AwDwYD
        VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
        zj0EAwIDSAAwRQIhAIB4XZI/2XCRYt4h3pBG+B2tX48iLynloot5BrnPimGcAiA4
        WJw06MmYA07W8pxeiy8jxtGQWFMoqnnDQF2HvZKphg==
        -----END CERTIFICATE-----
        """

    static let key = """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmBfYN6gVaUaVjPXS
        MaNxMtv8xCSlKMzIV5z0xAEYIJihRANCAATMEIgaBLwC9MI5Jho2T276FNNILnWJ
        NhuQqAH4WHxTnWHI4NZ5XSFuctvOTwByWFNEQ3mWZlvaSoA33wt1alP1
        -----END PRIVATE KEY-----
        """

    /// Trusts this certificate and no other.
    static func clientConfiguration() throws -> TLSConfiguration {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.trustRoots = .certificates(try NIOSSLCertificate.fromPEMBytes(Array(Self.certificate.utf8)))
        return configuration
    }

    /// Calls with the files that a gateway's configuration names.
    static func withFiles<Result>(_ body: (Configuration.TLS) async throws -> Result) async throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appending(path: "holdfast-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (certificate, key) = (folder.appending(path: "certificate.pem"), folder.appending(path: "key.pem"))
        try Data(Self.certificate.utf8).write(to: certificate)
        try Data(Self.key.utf8).write(to: key)
        return try await body(Configuration.TLS(certificate: certificate.path(), key: key.path()))
    }
}
