import HTTPTypes
import Hummingbird
import NIOCore

/// Files for browsers, which the gateway serves from memory.
struct BrowserFile: Sendable {
    let path: String
    private let body: ByteBuffer
    private let etag: String
    private let headers: HTTPFields

    /// The client, the modules that it loads when it needs them, and what pages may import beside it.
    static let client = [
        BrowserFile("holdfast.js", PackageResources.holdfast_js, isModule: true),
        BrowserFile("http.js", PackageResources.http_js, isModule: true),
        BrowserFile("outbox.js", PackageResources.outbox_js, isModule: true),
        BrowserFile("tabs.js", PackageResources.tabs_js, isModule: true),
        BrowserFile("tabs-worker.js", PackageResources.tabs_worker_js, isModule: true),
        BrowserFile("store.js", PackageResources.store_js, isModule: true),
        BrowserFile("reconnecting-websocket.js", PackageResources.reconnecting_websocket_js, isModule: true),
    ]
    /// The page for a support call, and the module behind it.
    static let diagnosis = [
        BrowserFile("diagnose.js", PackageResources.diagnose_js, isModule: true),
        BrowserFile("diagnose", PackageResources.diagnose_html, isModule: false),
    ]

    private init(_ path: String, _ bytes: [UInt8], isModule: Bool) {
        self.path = path
        self.body = ByteBuffer(bytes: bytes)
        // FNV-1a over the text: changes when the text does.
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        self.etag = "\"\(String(hash, radix: 16))\""
        var headers: HTTPFields = [
            .contentType: isModule ? "text/javascript; charset=utf-8" : "text/html; charset=utf-8",
            .eTag: self.etag, .cacheControl: "no-cache",
        ]
        // A module may be imported from a page of another origin; it holds nothing secret.
        if isModule { headers[.accessControlAllowOrigin] = "*" }
        self.headers = headers
    }

    func response(to request: Request) -> Response {
        guard !self.isCurrent(request.headers[.ifNoneMatch]) else {
            return Response(status: .notModified, headers: self.headers)
        }
        return Response(status: .ok, headers: self.headers, body: .init(byteBuffer: self.body))
    }

    private func isCurrent(_ ifNoneMatch: String?) -> Bool {
        guard let ifNoneMatch else { return false }
        return ifNoneMatch == "*"
            || ifNoneMatch.split(separator: ",").contains { part in
                var tag = part.drop { $0 == " " }
                if tag.hasPrefix("W/") { tag = tag.dropFirst(2) }
                return tag == self.etag[...]
            }
    }
}
