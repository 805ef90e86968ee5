//! Layer that adds the time of a request on the database to its event: `pool_ms` and `database_ms`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Request;
use journal::database::Spent;
use mainstay::server::LogFields;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tower::layer::layer_fn;
use tower::{Layer, Service};

use crate::events::millis;

pub(crate) fn layer<S>() -> impl Layer<S, Service = MeasureDatabase<S>> + Clone + Send + Sync + 'static {
    layer_fn(|inner| MeasureDatabase { inner })
}

/// The service of [`layer`].
#[derive(Debug, Clone)]
pub(crate) struct MeasureDatabase<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for MeasureDatabase<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Measured<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let fields = request.extensions().get::<LogFields>().cloned();
        let spent = Arc::new(Spent::default());
        Measured { inner: Arc::clone(&spent).measure(self.inner.call(request)), spent, fields }
    }
}

pin_project! {
    /// The future of [`MeasureDatabase`].
    pub(crate) struct Measured<F> {
        #[pin]
        inner: TaskLocalFuture<Arc<Spent>, F>,
        spent: Arc<Spent>,
        fields: Option<LogFields>,
    }
}

impl<F: Future> Future for Measured<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        let total = this.spent.total();
        if let Some(fields) = this.fields.take()
            && !total.is_zero()
        {
            fields.set("pool_ms", millis(this.spent.pool()));
            fields.set("database_ms", millis(total));
        }
        Poll::Ready(output)
    }
}
