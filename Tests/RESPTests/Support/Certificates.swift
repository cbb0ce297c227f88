import Foundation

/// A certificate for the name "redis.test" and the one that signed it, made by openssl.
struct Certificates {
    let authority: String
    let certificate: String
    let key: String

    init(in directory: String) throws {
        self.authority = "\(directory)/ca.pem"
        self.certificate = "\(directory)/cert.pem"
        self.key = "\(directory)/key.pem"
        try "subjectAltName=DNS:redis.test\n".write(toFile: "\(directory)/ext", atomically: false, encoding: .utf8)
        let elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        let request = ["req"] + elliptic
        let selfSigned = ["-x509", "-days", "2", "-subj", "/CN=test authority"]
        try Self.openssl(request + selfSigned + ["-keyout", "\(directory)/ca.key", "-out", self.authority])
        try Self.openssl(request + ["-subj", "/CN=redis.test", "-keyout", self.key, "-out", "\(directory)/csr"])
        try Self.openssl([
            "x509", "-req", "-in", "\(directory)/csr", "-CA", self.authority, "-CAkey", "\(directory)/ca.key",
            "-CAcreateserial", "-out", self.certificate, "-days", "2", "-extfile", "\(directory)/ext",
        ])
    }

    private static func openssl(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = arguments
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { throw TestFailure("openssl \(arguments) failed") }
    }
}
